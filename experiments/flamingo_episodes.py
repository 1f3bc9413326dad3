"""A small Flamingo learns new words from examples: accuracy on few-shot episodes, 0 to 8 shots.

The frozen parts come first.

1. The eyes are the image tower of lesson 12's CLIP, as it is. No picture of the test split was
   among its training images; `composition` shows colours and shapes in pairs that it never saw.
2. The language model is a GPT of lesson 06's kind, with two layers. Lesson 06's own reads prose and
   never has to bind a new word (`prose` measures it), so this one learns from episodes in text,
   where a name stands for each image. The loss counts a word only where it has stood before in its
   episode: the first time, nothing tells it. The first episodes show their four names in turns, the
   later ones in any order. With any order from the start, this small model was still repeating
   words at random after as many steps.

Then Flamingo joins them, and only the resampler and the gated blocks learn. In the first episodes a
name stands for about half of the images, so that an image's word must be found beside a name: this
tells the new layers which thing is which. With images alone, nothing does at first: all images look
alike to the language model. Later episodes have images alone. `images alone` is one run without the
names, to be compared by its loss with the run of the same seed.

Four words are bound to four shapes in each episode, anew. Each shot shows any of the four, and so
does the query: with s shots, 1 - (3/4)^s of the queries can be answered at all. Chance is 1 in 140
words; whoever repeats a word without looking is right about once in four.

Controls, all on test episodes:

- `names`: the frozen GPT reads names instead of images; the best that the eyes could give.
- `blind`: each image is exchanged for one grey image.
- `shuffled`: the images of the shots change places among the shots; the query's stays.
- `shut`: all gates at zero; must be the language model, bit for bit.
- `unbound`: a Flamingo whose GPT learnt from the same texts with the words of each text shuffled,
  so that they repeat but are bound to nothing.

A linear probe tells how well the shape can be read from the eyes, and from the resampler's latents.
Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.checkpoints import load_trained, save_trained, trained_tokenizer
from zoo_lessons.datasets.episodes import (
    IMAGE_TOKEN,
    MADE_UP_WORDS,
    Episode,
    Episodes,
    episode_tokenizer,
    word_targets,
)
from zoo_lessons.datasets.shapes import SHAPES, ShapesDataset
from zoo_lessons.datasets.words import encode_batch
from zoo_lessons.models.clip import CLIPVisionTower
from zoo_lessons.models.flamingo import CLIPPatches, Flamingo, fingerprint, patch_vectors
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import History, fit, seed_everything

NAME = "flamingo_episodes"
EYES, PROSE = "clip_shapes", "gpt_prose"
WAYS, MOST_SHOTS = 4, 8
SHOTS = tuple(range(MOST_SHOTS + 1))
JUDGED = ("test", "composition")
SIZES = {"pictures": 3000, "texts": 20_000, "episodes": 6000, "test": 400, "test pictures": 800}
STEPS = {"language": 800, "flamingo": 500}
BATCH = {"language": 64, "flamingo": 32}
RATES = {"language": 2e-3, "flamingo": 2e-3, "gates": 2e-2}
TURNS = 0.4  # the share of the language model's steps that show the names in turns
NAMED = 0.4  # the same of Flamingo's steps in which names stand for about half of the images
EVERY = 50
SEEDS = range(3)


# --- texts ---------------------------------------------------------------------------------------


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """(texts, length), with [BOS] first; the texts have one length."""
    return encode_batch(tokenizer, texts, add_bos=True).input_ids


def unbound(texts: Sequence[str], seed: int = 0) -> list[str]:
    """The same texts, the words of each shuffled: they still repeat, but are bound to nothing."""
    rng = np.random.default_rng(seed)
    changed = []
    for text in texts:
        tokens = text.split()
        tokens[1::2] = rng.permutation(tokens[1::2]).tolist()
        changed.append(" ".join(tokens))
    return changed


def word_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean loss over the words that stood before; logits (batch, length, vocab_size)."""
    return F.cross_entropy(logits.flatten(0, 1), word_targets(ids).flatten())


# --- the language model --------------------------------------------------------------------------


def train_language(turns: Tensor, ids: Tensor, vocab_size: int, steps: int) -> GPT:
    """A GPT on texts of one length, (texts, length): first those in turns, then those in any order.

    Its weights are rounded to float16, as the checkpoint keeps them, before anything is frozen.
    """
    seed_everything(0)
    model = GPT(
        GPTConfig(
            vocab_size,
            d_model=64,
            num_layers=2,
            num_heads=4,
            d_ff=256,
            max_length=2 * MOST_SHOTS + 3,
            dropout=0.0,
        )
    )
    draw = torch.Generator().manual_seed(0)

    def batch(step: int) -> Tensor:
        texts = turns if step < TURNS * steps else ids
        return texts[torch.randint(len(texts), (BATCH["language"],), generator=draw)]

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        return word_loss(model(ids).logits, ids)

    fit(
        model,
        batch,
        loss,
        steps=steps,
        lr=RATES["language"],
        weight_decay=0.0,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.half().float().eval()


@torch.no_grad()
def prose_choice(episodes: Sequence[Episode]) -> dict[str, float]:
    """How often lesson 06's GPT finds the query's word likeliest among the episode's words.

    Its texts are sentences, "The circle is modip. The star is bilak. The circle is", since it has
    read prose. A made-up word is several of its tokens; their log-probabilities are summed.
    `chance` is a blind choice among the episode's words.
    """
    model, tokenizer = load_trained(PROSE), trained_tokenizer(PROSE)
    hits, chance = [], []
    for episode in episodes:
        told = "".join(f"The {shot.name} is {shot.word}. " for shot in episode.shots)
        start = [0, *tokenizer.encode(f"{told}The {episode.query.name} is").ids]
        scores = {}
        for word in sorted({shot.word for shot in episode.shots}):
            new = tokenizer.encode(f" {word}").ids
            ids = torch.tensor([[*start, *new]])[:, -model.config.max_length :]
            chances = model(ids).logits[0].log_softmax(dim=-1)[-len(new) - 1 : -1]
            scores[word] = chances.gather(1, torch.tensor(new)[:, None]).sum().item()
        chance.append(1 / len(scores))
        hits.append(max(scores, key=scores.__getitem__) == episode.query.word)
    return {"right": _share(hits), "chance": _share(chance), "episodes": len(hits)}


# --- the eyes ------------------------------------------------------------------------------------


def eyes(tower: CLIPVisionTower) -> CLIPPatches:
    """The same tower with the same weights; it returns all tokens."""
    patches = CLIPPatches(tower.config)
    patches.load_state_dict(tower.state_dict())
    return patches.eval()


@torch.no_grad()
def features(vision: CLIPPatches, pictures: ShapesDataset) -> Tensor:
    """What the frozen encoder says of each drawing, (pictures, 1 + patches, width), made once."""
    return torch.cat([patch_vectors(vision, part) for part in pictures.pixel_values().split(100)])


def shape_labels(pictures: ShapesDataset) -> np.ndarray:
    """Index of each drawing's shape, (pictures,)."""
    return np.array([SHAPES.index(scene.objects[0].shape) for scene in pictures.scenes])


def probe(
    learnt: tuple[Tensor, np.ndarray], judged: Mapping[str, tuple[Tensor, np.ndarray]]
) -> dict[str, float]:
    """Share of shapes that a linear probe reads right from vectors (drawings, any shape)."""
    reader = LogisticRegression(max_iter=500).fit(learnt[0].flatten(1).numpy(), learnt[1])
    return {
        split: _share(reader.predict(vectors.flatten(1).numpy()) == labels)
        for split, (vectors, labels) in judged.items()
    }


# --- Flamingo ------------------------------------------------------------------------------------


def picture_rows(episodes: Sequence[Episode]) -> Tensor:
    """Indices of the drawings, (episodes, items)."""
    return torch.tensor([[item.picture for item in episode.items] for episode in episodes])


def resample(model: Flamingo, seen: Tensor) -> Tensor:
    """Latents of encoded images, as `Flamingo.encode_images` without running the encoder again.

    (batch, images, patches, width) -> (batch, images, latents, width).
    """
    return model.resampler(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])


def some_names(
    rows: Tensor, ids: Tensor, names: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Let about half of the items be named in text instead of shown.

    Args:
        rows: drawings (episodes, items).
        ids: the episodes' texts with images, (episodes, length).
        names: the same texts with names.
        generator: source of chance.

    Returns:
        rows with the drawings that are still shown in front, and the texts.
    """
    named = torch.rand(rows.shape, generator=generator) < 0.5
    shown_first = named.int().argsort(dim=1, stable=True)
    ids = ids.clone()
    ids[:, 1::2] = torch.where(named, names[:, 1::2], ids[:, 1::2])
    return rows.gather(1, shown_first), ids


def train_flamingo(
    vision: CLIPPatches,
    language: GPT,
    image_token_id: int,
    seen: Tensor,
    rows: Tensor,
    ids: Tensor,
    names: Tensor,
    seed: int,
    steps: int,
    *,
    named: float = NAMED,
) -> tuple[Flamingo, History]:
    """Train the new layers on whole episodes: every item after the first is a query, too.

    Args:
        vision, language: the frozen parts.
        image_token_id: of <image>.
        seen: encoded drawings, from `features`.
        rows: drawings of each episode, from `picture_rows`.
        ids: the episodes' texts, (episodes, length).
        names: the same texts with names instead of images.
        seed: of the new layers and of the batches.
        steps: how many.
        named: the share of the steps in which names stand for about half of the images.
    """
    seed_everything(seed)
    model = Flamingo.from_pretrained_parts(
        vision,
        language,
        image_token_id=image_token_id,
        num_latents=4,
        resampler_layers=1,
        resampler_heads=4,
        max_frames=0,
        cross_heads=4,
    )
    draw = torch.Generator().manual_seed(seed)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(ids), (BATCH["flamingo"],), generator=draw)
        if step >= named * steps:
            return seen[rows[chosen]], ids[chosen]
        some, mixed = some_names(rows[chosen], ids[chosen], names[chosen], draw)
        return seen[some], mixed

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen, ids = batch
        return word_loss(model(ids, image_latents=resample(model, seen)).logits, ids)

    gates = [p for name, p in model.named_parameters() if name.endswith("_gate")]
    others = [
        p for name, p in model.named_parameters() if p.requires_grad and not name.endswith("_gate")
    ]
    # A gate is one number that starts at zero; at this rate it opens within the first steps.
    groups = [{"params": others}, {"params": gates, "lr": RATES["gates"]}]
    optimizer = torch.optim.AdamW(groups, lr=RATES["flamingo"], weight_decay=0.0)
    history = fit(
        model,
        batch,
        loss,
        steps=steps,
        optimizer=optimizer,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval(), history


# --- judging -------------------------------------------------------------------------------------


class Judge:
    """Episodes of one split with each number of shots, and what models say to them."""

    def __init__(self, split: str, tokenizer: Tokenizer, size: int, num_pictures: int) -> None:
        self.tokenizer = tokenizer
        self.episodes = {
            shots: Episodes(split, size, shots=shots, ways=WAYS, num_pictures=num_pictures)
            for shots in SHOTS
        }
        self.pictures = self.episodes[0].pictures  # the same for all

    def prompts(self, shots: int, *, images: bool) -> Tensor:
        """(episodes, 2 · shots + 2)."""
        texts = [episode.prompt(images=images) for episode in self.episodes[shots]]
        return token_ids(self.tokenizer, texts)

    def right(self, shots: int, logits: Tensor) -> dict[str, float]:
        """Share of right words, of all queries and of those that some shot answers.

        logits (episodes, vocab_size) of the word after each prompt.
        """
        episodes = self.episodes[shots]
        answers = torch.tensor([self.tokenizer.token_to_id(e.query.word) for e in episodes])
        hits = logits.argmax(dim=-1) == answers
        answerable = torch.tensor([e.answerable for e in episodes])
        shares = {"all": _share(hits)}
        if answerable.any():
            shares["answerable"] = _share(hits[answerable])
        return shares

    @torch.no_grad()
    def judge_images(
        self, model: Flamingo, seen: Tensor, *, shuffled: bool = False
    ) -> dict[int, dict[str, float]]:
        """Accuracy of a Flamingo for each number of shots; `seen` are the encoded pictures."""
        latents, found = model.resampler(seen), {}
        for shots, episodes in self.episodes.items():
            rows = picture_rows(episodes)
            rows = shuffle_shots(rows) if shuffled else rows
            ids = self.prompts(shots, images=True)
            logits = model(ids, image_latents=latents[rows]).logits[:, -1]
            found[shots] = self.right(shots, logits)
        return found

    @torch.no_grad()
    def judge_text(self, language: GPT, *, images: bool = False) -> dict[int, dict[str, float]]:
        """Accuracy of a language model that reads names, or <image> and nothing behind it."""
        return {
            shots: self.right(shots, language(self.prompts(shots, images=images)).logits[:, -1])
            for shots in SHOTS
        }

    @torch.no_grad()
    def same_as_language(self, model: Flamingo, seen: Tensor) -> bool:
        """Whether the logits are the language model's, bit for bit, with 8 shots and images."""
        ids = self.prompts(MOST_SHOTS, images=True)
        latents = model.resampler(seen)[picture_rows(self.episodes[MOST_SHOTS])]
        return torch.equal(model(ids, image_latents=latents).logits, model.language(ids).logits)


def shut_gates(model: Flamingo) -> Flamingo:
    """A copy whose gates are back at zero."""
    shut = copy.deepcopy(model)
    with torch.no_grad():
        for block in shut.gated:
            block.attention_gate.zero_()
            block.feed_forward_gate.zero_()
    return shut


def shuffle_shots(rows: Tensor, seed: int = 0) -> Tensor:
    """Let the images of the shots change places; the query's, the last, stays. (episodes, items)"""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(rows), rows.shape[1] - 1, generator=generator).argsort(dim=1)
    return torch.cat([rows[:, :-1].gather(1, order), rows[:, -1:]], dim=1)


def summary(
    seeds: Sequence[Mapping[int, Mapping[str, float]]],
) -> dict[str, dict[str, list[float]]]:
    """For each number of shots: mean, low and high end of the interval over the seeds."""
    return {
        str(shots): {
            kind: [
                round(value, 4) for value in mean_interval([seed[shots][kind] for seed in seeds])
            ]
            for kind in seeds[0][shots]
        }
        for shots in seeds[0]
    }


def losses(history: History) -> list[float]:
    """The mean loss of each `EVERY` steps."""
    return [
        round(sum(history.loss[i : i + EVERY]) / EVERY, 4) for i in range(0, len(history), EVERY)
    ]


def require(what: str, found: float, least: float) -> None:
    """Stop before Flamingo is trained on a part that cannot do its own work.

    Raises:
        RuntimeError: the figure is too low.
    """
    if found < least:
        raise RuntimeError(f"{what} is {found:.3f}, expected at least {least}: train it longer")


def _share(hits: Any) -> float:
    return round(float(np.mean(np.asarray(hits))), 4)


@experiment(
    NAME,
    lesson="14",
    uses=[
        "experiments.clip_shapes",
        "experiments.gpt_prose",
        "experiments.intervals",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.episodes",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.scenes",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.models.clip",
        "zoo_lessons.models.flamingo",
        "zoo_lessons.models.gpt",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
    ],
)
def flamingo_episodes() -> dict[str, Any]:
    tokenizer = episode_tokenizer()
    image_token_id, vocab_size = tokenizer.token_to_id(IMAGE_TOKEN), tokenizer.get_vocab_size()
    told = [
        Episodes(
            "train", SIZES["texts"], ways=WAYS, order=order, kinds=("shape", "color"), seed=seed
        )
        for seed, order in enumerate(("turns", "any"), 1)
    ]
    shown = Episodes("train", SIZES["episodes"], ways=WAYS, num_pictures=SIZES["pictures"])
    judges = {
        split: Judge(split, tokenizer, SIZES["test"], SIZES["test pictures"]) for split in JUDGED
    }
    test = judges["test"]

    texts = [[episode.text(images=False) for episode in episodes] for episodes in told]
    language, unable = (
        train_language(
            *(token_ids(tokenizer, change(part)) for part in texts), vocab_size, STEPS["language"]
        )
        for change in (list, unbound)
    )
    names = test.judge_text(language)
    require("the language model's accuracy where it can know", names[8]["answerable"], 0.9)

    vision = eyes(load_trained(EYES).vision)
    seen = features(vision, shown.pictures)
    seen_by = {split: features(vision, judge.pictures) for split, judge in judges.items()}
    labels = {split: shape_labels(judge.pictures) for split, judge in judges.items()}
    with torch.no_grad():
        grey = vision(torch.zeros(1, 3, 48, 48)).expand_as(seen_by["test"])

    texts_shown = (
        token_ids(tokenizer, [e.text(images=images) for e in shown]) for images in (True, False)
    )
    data = (image_token_id, seen, picture_rows(shown), *texts_shown)
    frozen = {"vision": fingerprint(vision), "language": fingerprint(language)}
    runs = [train_flamingo(vision, language, *data, seed, STEPS["flamingo"]) for seed in SEEDS]
    models = [model for model, _ in runs]
    unchanged = all(
        fingerprint(getattr(model, part)) == frozen[part] for model in models for part in frozen
    )
    without, _ = train_flamingo(vision, unable, *data, 0, STEPS["flamingo"])
    alone, alone_history = train_flamingo(
        vision, language, *data, SEEDS[-1], STEPS["flamingo"], named=0.0
    )

    saved = save_trained(NAME, models[0], tokenizer)
    reloaded = load_trained(NAME)
    shut = shut_gates(reloaded)
    with torch.no_grad():
        latents = {split: reloaded.resampler(vectors) for split, vectors in seen_by.items()}
        learnt = reloaded.resampler(seen)
    figures = {
        "sizes": SIZES,
        "ways": WAYS,
        "words": len(MADE_UP_WORDS),
        "steps": STEPS,
        "seeds": len(SEEDS),
        "parameters": {
            "vision": sum(p.numel() for p in vision.parameters()),
            "language": sum(p.numel() for p in language.parameters()),
            "new": sum(p.numel() for p in models[0].parameters() if p.requires_grad),
        },
        "can be answered": {
            split: {
                str(shots): _share([e.answerable for e in episodes])
                for shots, episodes in judge.episodes.items()
            }
            for split, judge in judges.items()
        },
        "prose": prose_choice([e for e in test.episodes[MOST_SHOTS] if e.answerable][:100]),
        "names": names,
        "flamingo": {
            split: summary([judge.judge_images(model, seen_by[split]) for model in models])
            for split, judge in judges.items()
        },
        "blind": summary([test.judge_images(model, grey) for model in models]),
        "shuffled": summary(
            [test.judge_images(model, seen_by["test"], shuffled=True) for model in models]
        ),
        "shut": test.judge_images(shut, seen_by["test"]),
        "shut gates give the language model": test.same_as_language(shut, seen_by["test"]),
        "open gates give the language model": test.same_as_language(reloaded, seen_by["test"]),
        "unbound": test.judge_images(without, seen_by["test"]),
        "unbound names": test.judge_text(unable),
        "frozen parts unchanged": unchanged,
        "eyes are lesson 12's": fingerprint(reloaded.vision) == frozen["vision"],
        "probe": {
            "class token": probe(
                (seen[:, 0], shape_labels(shown.pictures)),
                {split: (seen_by[split][:, 0], labels[split]) for split in JUDGED},
            ),
            "latents": probe(
                (learnt, shape_labels(shown.pictures)),
                {split: (latents[split], labels[split]) for split in JUDGED},
            ),
        },
        "loss": [losses(history) for _, history in runs],
        "loss every": EVERY,
        "images alone": {
            "seed": SEEDS[-1],
            "loss": losses(alone_history),
            "flamingo": test.judge_images(alone, seen_by["test"]),
        },
        "checkpoint": {**saved, "flamingo": test.judge_images(reloaded, seen_by["test"])},
    }
    return {"figures": figures}
