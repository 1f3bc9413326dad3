"""Copying, selective copying and induction: attention, linear attention, state spaces, a hybrid.

Five models of two layers and about the same size learn each task of `datasets.sequence_tasks` from
the same number of fresh examples; plain copying is for the two state spaces only, to tell what
selection is for. Attention starts from sinusoidal positions, which it may change (the others need
none), and from PyTorch's usual weights: GPT-2's are for wide models, and so small here that
attention stays uniform for long. State spaces start with step lengths ten times the usual ones,
0.01 to 1: the usual ones are for long texts. Each model gets the better of two learning rates, by
its accuracy on validation examples of induction with the first seed. Judged on other examples: the
share of answers that are right.

The symbols of an example differ, so a model that has kept which symbols there were, but not their
order, guesses among those that it has not said yet: `knows_the_set`.

Mamba on selective copying is kept as a checkpoint (the first seed). With every seed: the mean of
its step lengths at symbols and at noise, and its accuracy when the step lengths, or what it writes
and reads (B and C), are made the same for all tokens.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.sequence_tasks import (
    FIRST_SYMBOL,
    NOISE,
    TASKS,
    SequenceBatch,
    sequence_batch,
    vocabulary_size,
)
from zoo_lessons.layers.linear_attention import LinearAttention
from zoo_lessons.layers.positions import sinusoidal_positions
from zoo_lessons.layers.sparse_attention import replace_attention
from zoo_lessons.layers.ssm import DiagonalSSM, SelectiveSSM
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.models.mamba import Mamba, MambaConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.schedules import warmup_cosine

NAME = "mamba_copying"
KINDS = ("attention", "linear attention", "LTI state space", "Mamba", "hybrid")
KINDS_OF = {"induction": KINDS, "selective copying": KINDS, "copying": KINDS[2:4]}
TUNED_ON = "induction"
NUM_SYMBOLS, KEPT, PLACES, QUESTIONS = 8, 5, 12, 4
D_MODEL, LAYERS, HEADS, D_STATE, LONGER_STEPS = 32, 2, 2, 4, 10.0
STEPS, BATCH, WARMUP, RATES, SEEDS = 700, 32, 30, (3e-3, 1e-2), range(3)
JUDGED, WATCHED, EVERY = 500, 200, 100
Run = tuple[nn.Module, list[float]]  # a trained model, and its accuracy while it was trained
VALIDATION_SEED, TEST_SEED = 1001, 1002


class UnmaskedLinearAttention(LinearAttention):
    """Takes no notice of the mask: GPT's says "causal", which the layer is by itself."""

    def __init__(self) -> None:
        super().__init__(causal=True)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        return super().forward(q, k, v, bias=bias)


def draw(task: str, size: int, generator: torch.Generator) -> SequenceBatch:
    """Examples of a task in the sizes of this experiment."""
    return sequence_batch(
        task,
        size,
        num_symbols=NUM_SYMBOLS,
        kept=KEPT,
        places=PLACES,
        questions=QUESTIONS,
        generator=generator,
    )


def build(kind: str) -> nn.Module:
    """An untrained model, one of `KINDS`."""
    sizes = {
        "vocab_size": vocabulary_size(NUM_SYMBOLS),
        "d_model": D_MODEL,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "d_ff": D_MODEL,
    }
    if "attention" in kind:
        model = GPT(GPTConfig(**sizes, max_length=32, dropout=0.0))
        for linear in (module for module in model.modules() if isinstance(module, nn.Linear)):
            linear.reset_parameters()
        with torch.no_grad():
            table = sinusoidal_positions(32, D_MODEL)
            scale = model.embedding.weight.std() / table.std()
            model.positions.weight.copy_(scale * table)
        if kind == "linear attention":
            replace_attention(model, [UnmaskedLinearAttention() for _ in range(LAYERS)])
        return model
    attention_layers = (LAYERS - 1,) if kind == "hybrid" else ()
    model = Mamba(
        MambaConfig(
            **sizes,
            d_state=D_STATE,
            selective=kind != "LTI state space",
            attention_layers=attention_layers,
        )
    )
    lengthen_steps(model, LONGER_STEPS)
    return model


@torch.no_grad()
def lengthen_steps(model: nn.Module, factor: float) -> None:
    """Multiply the step lengths that the state spaces start with."""
    for module in model.modules():
        if isinstance(module, DiagonalSSM):
            module.log_delta += torch.tensor(factor).log()
        if isinstance(module, SelectiveSSM):
            delta = factor * F.softplus(module.dt_proj.bias)
            module.dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))


def loss(model: nn.Module, batch: SequenceBatch) -> Tensor:
    """Mean loss of the answers, in nats."""
    input_ids, asked = batch
    logits = model(input_ids[:, :-1]).logits  # the last token asks nothing
    return F.cross_entropy(logits[asked[:, :-1]], input_ids[:, 1:][asked[:, :-1]])


@torch.no_grad()
def accuracy(model: nn.Module, task: str, seed: int, size: int = JUDGED) -> float:
    """Share of right answers on `size` examples."""
    input_ids, asked = draw(task, size, torch.Generator().manual_seed(seed))
    right = model(input_ids[:, :-1]).logits.argmax(dim=-1) == input_ids[:, 1:]
    return right[asked[:, :-1]].float().mean().item()


def train(kind: str, task: str, seed: int, rate: float, *, steps: int = STEPS) -> Run:
    """A trained model, and its accuracy on validation examples every `EVERY` steps."""
    seed_everything(seed)
    model, generator = build(kind), torch.Generator().manual_seed(seed)
    curve = []

    def judge(record: Any) -> None:
        if (record.step + 1) % EVERY == 0:
            curve.append(accuracy(model, task, VALIDATION_SEED, WATCHED))

    fit(
        model,
        lambda step: draw(task, BATCH, generator),
        loss,
        steps=steps,
        lr=rate,
        schedule=partial(warmup_cosine, warmup_steps=WARMUP, total_steps=steps),
        device="cpu",
        progress=False,
        on_step=judge,
    )
    return model.eval(), curve


def best_rate(kind: str) -> tuple[float, dict[str, float], Run]:
    """The rate that is best on validation examples of `TUNED_ON` with the first seed.

    Returns:
        The rate, the accuracy with each rate, and the run with the best.
    """
    runs = {rate: train(kind, TUNED_ON, SEEDS[0], rate) for rate in RATES}
    rate = max(runs, key=lambda rate: runs[rate][1][-1])
    return rate, {str(rate): curve[-1] for rate, (_, curve) in runs.items()}, runs[rate]


@contextmanager
def same_for_all(model: nn.Module, what: str) -> Iterator[None]:
    """Inside, take away what a selective state space selects by.

    Each step length (what="delta"), or each entry of B and C (what="B and C"), becomes its mean
    over all tokens of the batch.
    """

    def average_delta(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        mean = F.softplus(output).mean(dim=(0, 1), keepdim=True)
        return (mean + torch.log(-torch.expm1(-mean))).expand_as(output)

    def average_projections(rank: int, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        dt, rest = output[..., :rank], output[..., rank:]
        return torch.cat([dt, rest.mean(dim=(0, 1), keepdim=True).expand_as(rest)], dim=-1)

    hooks = []
    for ssm in (module for module in model.modules() if isinstance(module, SelectiveSSM)):
        if what == "delta":
            hooks.append(ssm.dt_proj.register_forward_hook(average_delta))
        else:
            hooks.append(
                ssm.x_proj.register_forward_hook(partial(average_projections, ssm.dt_rank))
            )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def step_lengths(model: nn.Module, input_ids: Tensor) -> list[Tensor]:
    """The step lengths of each selective layer while it reads, (batch, length, d_inner)."""
    seen: list[Tensor] = []
    hooks = [
        module.dt_proj.register_forward_hook(lambda *call: seen.append(F.softplus(call[2])))
        for module in model.modules()
        if isinstance(module, SelectiveSSM)
    ]
    try:
        model(input_ids)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def selection(model: nn.Module) -> dict[str, Any]:
    """Where Mamba makes long steps on selective copying, and what it is without choosing."""
    task = "selective copying"
    input_ids, _ = draw(task, JUDGED, torch.Generator().manual_seed(TEST_SEED))
    context = input_ids[:, :PLACES]
    means = {"symbols": [], "noise": []}
    for delta in step_lengths(model, input_ids):
        each = delta[:, :PLACES].mean(dim=-1)  # (batch, places)
        means["symbols"].append(each[context >= FIRST_SYMBOL].mean().item())
        means["noise"].append(each[context == NOISE].mean().item())
    without = {}
    for what in ("delta", "B and C"):
        with same_for_all(model, what):
            without[what] = accuracy(model, task, TEST_SEED)
    return {
        "accuracy": accuracy(model, task, TEST_SEED),
        "step_lengths": means,
        "same_for_all": without,
    }


def knows_the_set() -> float:
    """Expected accuracy on a copying task of one who knows the symbols, but not their order."""
    return sum(1 / left for left in range(1, KEPT + 1)) / KEPT


@experiment(
    "ssm_tasks",
    lesson="16",
    uses=[
        "experiments.intervals",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.sequence_tasks",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.linear_attention",
        "zoo_lessons.layers.positions",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.layers.ssm",
        "zoo_lessons.models.gpt",
        "zoo_lessons.models.mamba",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
        "zoo_lessons.training.schedules",
    ],
)
def ssm_tasks() -> dict[str, Any]:
    tuned = {kind: best_rate(kind) for kind in KINDS}
    results: dict[str, dict[str, Any]] = {task: {} for task in TASKS}
    selections, saved = [], {}
    for task, kinds in KINDS_OF.items():
        for kind in kinds:
            rate, _, first_run = tuned[kind]
            scores, curves = [], []
            for seed in SEEDS:
                first = seed == SEEDS[0]
                known = first and task == TUNED_ON
                model, curve = first_run if known else train(kind, task, seed, rate)
                if (task, kind) == ("selective copying", "Mamba"):
                    if first:
                        saved = save_trained(NAME, model)
                        model = load_trained(NAME)
                    selections.append(selection(model))
                scores.append(accuracy(model, task, TEST_SEED))
                curves.append(curve)
            mean, low, high = mean_interval(scores)
            results[task][kind] = {
                "accuracy": scores,
                "mean": mean,
                "interval": [low, high],
                "curve": curves,
            }
    figures = {
        "checkpoint": saved,
        "tasks": results,
        "rates": {kind: {"rate": rate, "tried": tried} for kind, (rate, tried, _) in tuned.items()},
        "selection": selections,
        "curve_steps": list(range(EVERY, STEPS + 1, EVERY)),
        "blind_guess": 1 / NUM_SYMBOLS,
        "knows_the_set": knows_the_set(),
        "steps": STEPS,
        "batch": BATCH,
        "judged": JUDGED,
        "sizes": {
            "symbols": NUM_SYMBOLS,
            "kept": KEPT,
            "places": PLACES,
            "questions": QUESTIONS,
        },
        "parameters": {kind: sum(p.numel() for p in build(kind).parameters()) for kind in KINDS},
    }
    return {"figures": figures}
