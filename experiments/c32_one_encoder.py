"""C32: does one architecture encode text, images and sound?

Three tasks, one encoder: class token, learned positions, three blocks, one linear layer. Its sizes
are the same for all; only what turns the input into tokens differs.

- **Images**: scikit-learn's digits, patches of 2 × 2 pixels, 10 classes, new writers in the test.
- **Sound**: generated sounds (`datasets.sounds`) as spectrograms of 64 × 64, patches of 8 × 8, 8
  kinds.
- **Text**: passages of documentation (`datasets.topics`), their first 32 words, an embedding table,
  6 topics, no module of the test in training. Padding is masked.

Beside each stands logistic regression on the same input: on the pixels, or on word counts (TF-IDF).
Its penalty is the best of four on the validation part. The encoder learns with one rate and one
recipe on all three; it is not tuned for any.

Figures: accuracy [seed] of the encoder, accuracy of the baseline and of chance, for each input.

**Reproduced** if the encoder's worst seed beats chance by 0.3 on all three, and its mean is at most
0.02 below the baseline on at least two; **partly** if only the first holds; otherwise the article
is wrong.

Nothing here is timed: the figures are the same on every run of one machine. The passages depend on
the installed versions of the packages whose documentation they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.image_training import ClassifierOutput, accuracy, train_classifier
from experiments.intervals import mean_interval
from zoo_lessons.datasets.digits import digits
from zoo_lessons.datasets.sounds import KINDS, sounds
from zoo_lessons.datasets.topics import TOPICS, TopicPassage, passages_by_topic
from zoo_lessons.datasets.words import encode_batch, word_tokenizer
from zoo_lessons.layers import EncoderBlock, PatchEmbedding, padding_mask
from zoo_lessons.models.vit import initialise
from zoo_lessons.records import Verdict, experiment

D_MODEL, LAYERS, HEADS, D_FF = 48, 3, 4, 96
RATE, STEPS, SEEDS = 3e-3, 400, range(3)
SOUNDS = {"train": 1600, "validation": 400, "test": 400}
PASSAGES = {"train": 300, "validation": 40, "test": 50}  # of each topic
WORDS = 32
PENALTIES = (0.01, 0.1, 1.0, 10.0)
ABOVE_CHANCE, BEHIND = 0.3, 0.02


class OneEncoder(nn.Module):
    """A ViT whose first layer is given: whatever makes tokens of an input.

    Args:
        tokens: input -> (batch, length, D_MODEL). Integers are taken for words, 0 for padding.
        length: tokens of an input, without the class token.
        num_labels: classes.
    """

    def __init__(self, tokens: nn.Module, length: int, num_labels: int):
        super().__init__()
        self.tokens = tokens
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, D_MODEL))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + length, D_MODEL))
        self.layers = nn.ModuleList(
            EncoderBlock(D_MODEL, HEADS, D_FF, norm="pre", activation="gelu") for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, num_labels)
        self.apply(initialise)

    def forward(self, inputs: Tensor) -> ClassifierOutput:
        """Pixels (batch, channels, height, width) or word ids (batch, length)."""
        mask = None
        if not inputs.is_floating_point():
            visible = (inputs != 0).long()
            mask = padding_mask(torch.cat([torch.ones_like(visible[:, :1]), visible], dim=1))
        x = self.tokens(inputs)  # (batch, length, D_MODEL)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x, mask)
        return ClassifierOutput(self.head(self.norm(x)[:, 0]))


class Task(NamedTuple):
    """Inputs and labels by split; the same inputs as rows of numbers for logistic regression."""

    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]
    features: dict[str, Any]
    length: int
    num_labels: int

    def build(self) -> OneEncoder:
        first = self.inputs["train"]
        if first.is_floating_point():
            side = first.shape[-1]
            tokens: nn.Module = PatchEmbedding(side // round(self.length**0.5), D_MODEL, 1)
        else:
            tokens = nn.Embedding(1 + int(first.max()), D_MODEL)
            nn.init.normal_(tokens.weight, std=0.02)
        return OneEncoder(tokens, self.length, self.num_labels)


def image_task() -> Task:
    parts = {split: digits(split) for split in ("train", "validation", "test")}
    return _pixels(
        {split: part.images for split, part in parts.items()},
        {split: part.labels for split, part in parts.items()},
        length=16,
        num_labels=10,
    )


def sound_task(sizes: dict[str, int] = SOUNDS) -> Task:
    parts = {split: sounds(split, size) for split, size in sizes.items()}
    return _pixels(
        {split: part.spectrograms for split, part in parts.items()},
        {split: part.labels for split, part in parts.items()},
        length=64,
        num_labels=len(KINDS),
    )


def text_task(sizes: dict[str, int] = PASSAGES) -> Task:
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = {split: passages_by_topic(split, size) for split, size in sizes.items()}
    tokenizer = word_tokenizer(passage.text for passage in parts["train"])
    tokenizer.enable_truncation(WORDS)
    inputs = {
        split: encode_batch(tokenizer, _texts(part), length=WORDS).input_ids
        for split, part in parts.items()
    }
    # The baseline reads the same 32 words.
    cut = {
        split: [" ".join(map(str, row[row > 0].tolist())) for row in ids]
        for split, ids in inputs.items()
    }
    counts = TfidfVectorizer(token_pattern=r"\d+", sublinear_tf=True).fit(cut["train"])
    labels = {
        split: torch.tensor([passage.label for passage in part]) for split, part in parts.items()
    }
    features = {split: counts.transform(texts) for split, texts in cut.items()}
    return Task(inputs, labels, features, WORDS, len(TOPICS))


def baseline(task: Task) -> float:
    """Test accuracy of logistic regression with the penalty that is best on validation."""
    from sklearn.linear_model import LogisticRegression

    best, best_score = None, -1.0
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=3000)
        model.fit(task.features["train"], task.labels["train"].numpy())
        score = model.score(task.features["validation"], task.labels["validation"].numpy())
        if score > best_score:
            best, best_score = model, score
    return round(best.score(task.features["test"], task.labels["test"].numpy()), 4)


def measure(task: Task, seeds: Sequence[int] = SEEDS, *, steps: int = STEPS) -> dict[str, Any]:
    """{"encoder": [seed], "baseline", "chance"}: accuracies on the test part."""
    found = []
    for seed in seeds:
        model = train_classifier(
            task.build,
            task.inputs["train"],
            task.labels["train"],
            seed=seed,
            steps=steps,
            lr=RATE,
            augment=False,
        )
        found.append(accuracy(model, task.inputs["test"], task.labels["test"]))
    return {
        "encoder": found,
        "baseline": baseline(task),
        "chance": round(1 / task.num_labels, 4),
        "tokens": 1 + task.length,
    }


def judge(figures: dict[str, dict[str, Any]]) -> Verdict:
    """The verdict by the thresholds above."""
    learned = all(min(row["encoder"]) - row["chance"] >= ABOVE_CHANCE for row in figures.values())
    lead = {
        name: mean_interval(row["encoder"])[0] - row["baseline"] for name, row in figures.items()
    }
    ahead = [name for name in lead if lead[name] > BEHIND]
    level = [name for name in lead if abs(lead[name]) <= BEHIND]
    behind = [name for name in lead if lead[name] < -BEHIND]
    result = "the article is wrong"
    if learned:
        result = "reproduced" if len(ahead + level) >= 2 else "partly"

    def text(name: str) -> str:
        mean, low, high = mean_interval(figures[name]["encoder"])
        return (
            f"{name} {mean:.3f} ({max(low, 0):.3f} to {min(high, 1):.3f}; logistic regression "
            f"{figures[name]['baseline']:.3f}, chance {figures[name]['chance']:.3f})"
        )

    return Verdict(
        result,
        ours=f"accuracy of one encoder: {', '.join(map(text, figures))}",
        explanation=(
            "Only the layer that makes tokens differs between the three. Against logistic "
            f"regression the encoder is {_compared(ahead, level, behind)}."
            + (
                " One architecture can learn all of them, which does not make it the best for each "
                "from little data."
                if behind
                else ""
            )
        ),
        cell="09#Claim-C32:-one-encoder,-three-kinds-of-input",
    )


def _compared(ahead: list[str], level: list[str], behind: list[str]) -> str:
    places = {"ahead": ahead, f"level (within {BEHIND})": level, "behind": behind}
    return ", ".join(f"{how} on {' and '.join(names)}" for how, names in places.items() if names)


def _pixels(
    images: dict[str, Tensor], labels: dict[str, Tensor], *, length: int, num_labels: int
) -> Task:
    features = {split: part.flatten(1).numpy() for split, part in images.items()}
    return Task(images, labels, features, length, num_labels)


def _texts(passages: list[TopicPassage]) -> list[str]:
    return [passage.text for passage in passages]


@experiment(
    "c32_one_encoder",
    claims=["C32"],
    lesson="09",
    uses=[
        "experiments.image_training",
        "experiments.intervals",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.datasets.sounds",
        "zoo_lessons.datasets.topics",
        "zoo_lessons.datasets.words",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.patches",
        "zoo_lessons.models.vit",
    ],
)
def c32_one_encoder() -> dict[str, Any]:
    tasks = {"images": image_task, "sound": sound_task, "text": text_task}
    figures = {name: measure(make()) for name, make in tasks.items()}
    about = {"seeds": len(SEEDS), "steps": STEPS, "kinds": list(KINDS), "topics": list(TOPICS)}
    return {"figures": {**about, "inputs": figures}, "verdicts": {"C32": judge(figures)}}
