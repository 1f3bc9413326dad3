"""C04: can positions be encoded in four ways, and which of them reach beyond the training length?

One small encoder (`models.tagger`) names, for every word, the last noun before it
(`datasets.last_noun`). It sees 32 words in training and is tried on up to 128. Only the position
encoding differs: the same sizes, steps, learning rate and batches for all, and none as control.

- "learned" has 128 rows so that it can be tried on longer sequences at all. Rows 32 to 127 keep
  their random start, since no training step touches them.
- "relative" puts all distances from 24 on into its last bucket, so that training fills every
  bucket. "relative (to 128)" is T5's own setting, made for 512 training tokens: here, the buckets
  beyond distance 31 keep their random start.

Figures: accuracy [seed][length] at each length, and accuracy [seed][span] over spans of positions
of the longest sequences. An answer by chance is right in one of eight cases.

The claim that there are four ways is **reproduced** if each of the four, at the training length,
beats the control by 0.3 in every seed; **partly** if at least two do; otherwise the article is
wrong. How far each carries beyond the training length is not part of the claim; the figures say it.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from typing import Any

import torch

from experiments.intervals import mean_interval
from zoo_lessons.datasets.last_noun import NO_LABEL, NOUNS, WORDS, last_noun_batch
from zoo_lessons.models.tagger import Tagger, TaggerConfig
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import fit, seed_everything

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"positions": "none"},
    "sinusoidal": {"positions": "sinusoidal"},
    "learned": {"positions": "learned"},
    "relative": {"positions": "relative", "max_distance": 24},
    "relative (to 128)": {"positions": "relative", "max_distance": 128},
    "rotary": {"positions": "rotary"},
}
FOUR = ("sinusoidal", "learned", "relative", "rotary")
TRAINED_LENGTH = 32
LENGTHS = (32, 48, 64, 96, 128)
SPAN = 16  # positions counted together
STEPS, BATCH, RATE = 600, 32, 4e-3
SEEDS = range(5)
EVALUATED = 128  # sequences of each length


def train(options: dict[str, Any], seed: int, *, steps: int = STEPS) -> Tagger:
    """A model with these options, trained on sequences of `TRAINED_LENGTH` words."""
    seed_everything(seed)
    model = Tagger(TaggerConfig(vocab_size=len(WORDS), num_labels=len(NOUNS), **options))
    words = torch.Generator().manual_seed(1000 + seed)
    fit(
        model,
        lambda step: last_noun_batch(BATCH, TRAINED_LENGTH, words),
        lambda model, batch: torch.nn.functional.cross_entropy(
            model(batch.input_ids).flatten(0, 1), batch.labels.flatten(), ignore_index=NO_LABEL
        ),
        steps=steps,
        lr=RATE,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model


@torch.no_grad()
def answers(model: Tagger, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(right, counted): Boolean (sequences, length) over fresh sequences."""
    words = torch.Generator().manual_seed(2000 + seed)
    batch = last_noun_batch(EVALUATED, length, words)
    right = model.eval()(batch.input_ids).argmax(dim=-1) == batch.labels
    return right, batch.labels != NO_LABEL


def accuracy(right: torch.Tensor, counted: torch.Tensor) -> float:
    return round((right.sum() / counted.sum()).item(), 4)


def measure(seeds: range = SEEDS, *, steps: int = STEPS) -> dict[str, Any]:
    """{"accuracy": {variant: [seed][length]}, "by_place": {variant: [seed][span]}}."""
    by_length: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    by_place: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for seed in seeds:
        for name, options in VARIANTS.items():
            model = train(options, seed, steps=steps)
            results = {length: answers(model, length, seed) for length in LENGTHS}
            by_length[name].append([accuracy(*results[length]) for length in LENGTHS])
            spans = zip(*(part.split(SPAN, dim=1) for part in results[LENGTHS[-1]]), strict=True)
            by_place[name].append([accuracy(*span) for span in spans])
    return {"accuracy": by_length, "by_place": by_place}


def judge(accuracies: dict[str, list[list[float]]]) -> Verdict:
    """The verdict by the thresholds above."""
    at_trained = {name: [row[0] for row in rows] for name, rows in accuracies.items()}
    working = [
        name
        for name in FOUR
        if all(
            ours - control >= 0.3
            for ours, control in zip(at_trained[name], at_trained["none"], strict=True)
        )
    ]
    result = "reproduced" if len(working) == 4 else "partly" if len(working) >= 2 else None

    def text(name: str, place: int) -> str:
        mean, low, high = mean_interval([row[place] for row in accuracies[name]])
        return f"{name} {mean:.2f} ({max(low, 0):.2f} to {min(high, 1):.2f})"

    return Verdict(
        result or "the article is wrong",
        ours=(
            f"accuracy at the training length of {TRAINED_LENGTH}: "
            + ", ".join(text(name, 0) for name in ("none", *FOUR))
            + " (mean of the seeds and its 95 % interval)"
        ),
        explanation=(
            f"On sequences four times as long: {', '.join(text(name, -1) for name in FOUR)}. With "
            f"buckets that training never fills: {text('relative (to 128)', -1)}."
        ),
        cell="03#Claim-C04,-measured",
    )


@experiment(
    "c04_positions",
    claims=["C04"],
    lesson="03",
    uses=[
        "experiments.intervals",
        "zoo_lessons.datasets.last_noun",
        "zoo_lessons.layers.positions",
        "zoo_lessons.models.tagger",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def c04_positions() -> dict[str, Any]:
    figures = measure()
    about = {
        "lengths": list(LENGTHS),
        "trained_length": TRAINED_LENGTH,
        "span": SPAN,
        "steps": STEPS,
        "seeds": len(SEEDS),
        "sequences": EVALUATED,
    }
    return {"figures": {**about, **figures}, "verdicts": {"C04": judge(figures["accuracy"])}}
