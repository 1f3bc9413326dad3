"""C11, first half: do clipping, warm-up and mixed precision make training stabler?

A Transformer translates English captions into French, as in lesson 04, but in a shape that is hard
to train: post-norm, 6 + 6 layers, 32 wide, and a high learning rate. Everything that the three
remedies could repair is therefore there. `table` trains it with and without

- warm-up: the rate rises over the first half of the steps, instead of being at its peak at once;
- clipping: the gradient's norm is limited to 1;
- bf16: matrix products in bf16 under autocast, instead of fp32;

in all eight combinations. `depth` compares post-norm and pre-norm at two depths, without any of the
three.

For each run `loss` holds the mean loss of the last ten steps, or null if the weights stopped being
numbers. A run has converged if this loss is below half of `guess`: the loss of someone who knows
how often each word occurs, and nothing else.

`c11_sgd` does the same for clipping and SGD. Nothing here is timed; `c11_timing` does that, and
judges the claim. The runs go to all cores, one thread each, so the figures do not depend on how
many there are.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.datasets.shapes import translation_pairs
from zoo_lessons.datasets.words import PAD_ID, encode_batch, word_tokenizer
from zoo_lessons.models import Transformer, TransformerConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import constant, fit, seed_everything

PAIRS, BATCH, STEPS, WARMUP, SEEDS = 4000, 32, 120, 60, 3
D_MODEL, NUM_HEADS, D_FF, DEEP, SHALLOW = 32, 4, 64, 6, 2
RATE, MAX_NORM = 3e-3, 1.0
SGD_RATE, SGD_MOMENTUM, SGD_STEPS = 2.0, 0.9, 100
LAST = 10  # the final loss is the mean over so many steps


class Run(NamedTuple):
    """What tells one run from another."""

    seed: int
    norm: str = "post"
    layers: int = DEEP
    warmup: bool = False
    max_norm: float | None = None
    precision: str = "fp32"
    optimizer: str = "adamw"


class Task(NamedTuple):
    """All captions as padded ids, and the sizes of both vocabularies."""

    input_ids: Tensor  # (pairs, source length)
    attention_mask: Tensor  # (pairs, source length)
    target_ids: Tensor  # (pairs, target length)
    vocab_size: int
    target_vocab_size: int

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(1000 * seed + step)
        rows = torch.randint(len(self.input_ids), (BATCH,), generator=draw)
        return self.input_ids[rows], self.attention_mask[rows], self.target_ids[rows]


@cache
def task() -> Task:
    """The translation task of lesson 04; each process reads it once."""
    english, french = zip(*translation_pairs("train", PAIRS), strict=True)
    words, mots = word_tokenizer(english), word_tokenizer(french)
    target_ids = encode_batch(mots, french, add_bos=True, add_eos=True).input_ids
    sizes = words.get_vocab_size(), mots.get_vocab_size()
    return Task(*encode_batch(words, english), target_ids, *sizes)


def translation_loss(model: Transformer, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    input_ids, attention_mask, target_ids = batch
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == PAD_ID, -100)
    logits = model(input_ids, attention_mask, target_ids[:, :-1]).logits
    return F.cross_entropy(logits.transpose(1, 2), labels)


def guessing_loss() -> float:
    """Entropy of the words' frequencies in nats: the best that a constant prediction can do."""
    labels = task().target_ids[:, 1:]
    counts = labels[labels != PAD_ID].bincount().double()
    return torch.special.entr(counts / counts.sum()).sum().item()


def final_loss(run: Run) -> float | None:
    """Train once: mean loss of the last steps, or None if the weights stopped being numbers."""
    torch.set_num_threads(1)
    seed_everything(run.seed)
    model = Transformer(
        TransformerConfig(
            vocab_size=task().vocab_size,
            target_vocab_size=task().target_vocab_size,
            d_model=D_MODEL,
            num_layers=run.layers,
            num_heads=NUM_HEADS,
            d_ff=D_FF,
            dropout=0.0,
            norm=run.norm,
        )
    )
    if run.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=SGD_RATE, momentum=SGD_MOMENTUM)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    history = fit(
        model,
        partial(task().batch, seed=run.seed),
        translation_loss,
        steps=SGD_STEPS if run.optimizer == "sgd" else STEPS,
        optimizer=optimizer,
        schedule=partial(constant, warmup_steps=WARMUP if run.warmup else 0),
        clip_norm=run.max_norm,
        precision=run.precision,
        device="cpu",
        progress=False,
    )
    return None if history.diverged else float(history.loss[-LAST:].mean())


def final_losses(runs: Iterable[Run]) -> dict[Run, float | None]:
    """Train them all, side by side on all cores; equal runs only once."""
    runs = list(dict.fromkeys(runs))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(runs, pool.map(final_loss, runs), strict=True))


def outcome(losses: list[float | None], guess: float) -> dict[str, Any]:
    """The final losses over the seeds as the record keeps them, and how many runs converged."""
    return {
        "loss": [None if loss is None else round(loss, 3) for loss in losses],
        "converged": sum(loss is not None and loss < guess / 2 for loss in losses),
    }


def planned_runs() -> dict[str, dict[str, dict[str, Any]]]:
    """{part of the figures: {name: what is special about these runs}}."""
    table = {}
    for warmup in (False, True):
        for clipping in (False, True):
            for precision in ("fp32", "bf16"):
                parts = ["warm-up"] * warmup + ["clipping"] * clipping
                name = " + ".join(parts + ["bf16"] * (precision == "bf16")) or "none"
                table[name] = {
                    "warmup": warmup,
                    "max_norm": MAX_NORM if clipping else None,
                    "precision": precision,
                }
    return {
        "table": table,
        "depth": {
            f"{norm}-norm, {layers} + {layers} layers": {"norm": norm, "layers": layers}
            for norm in ("post", "pre")
            for layers in (SHALLOW, DEEP)
        },
    }


@experiment(
    "c11_stability",
    lesson="05",
    uses=[
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.models.transformer",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.loop",
        "zoo_lessons.training.random_state",
        "zoo_lessons.training.schedules",
    ],
)
def c11_stability() -> dict[str, Any]:
    plan = planned_runs()
    losses = final_losses(
        Run(seed, **options)
        for part in plan.values()
        for options in part.values()
        for seed in range(SEEDS)
    )
    guess = guessing_loss()
    figures: dict[str, Any] = {
        "steps": STEPS,
        "warmup_steps": WARMUP,
        "rate": RATE,
        "max_norm": MAX_NORM,
        "seeds": SEEDS,
        "layers": DEEP,
        "guess": round(guess, 3),
    }
    for part, named in plan.items():
        figures[part] = {}
        for name, options in named.items():
            runs = [Run(seed, **options) for seed in range(SEEDS)]
            figures[part][name] = outcome([losses[run] for run in runs], guess)
    return {"figures": figures}
