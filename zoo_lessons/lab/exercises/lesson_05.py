"""Exercises of lesson 05: clipping, a schedule, a step with loss scaling, and a broken loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.lab.exercises import Case, Exercise, Mistake
from zoo_lessons.training import warmup_inverse_sqrt

# Clipping by the global norm


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([g.float().square().sum() for g in gradients]).sum().sqrt()


def _clip(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    norm = _norm(gradients)
    factor = (max_norm / norm).clamp(max=1.0)
    return [g * factor for g in gradients], norm


def _clip_by_number(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """The norm is a number here, so that an answer may give a number or a tensor of one element."""
    clipped, norm = _clip(gradients, max_norm)
    return clipped, norm.item()


def _clip_in_place(gradients: Sequence[Tensor], max_norm: float) -> tuple[Sequence[Tensor], Tensor]:
    clipped, norm = _clip(gradients, max_norm)
    for gradient, new in zip(gradients, clipped, strict=True):
        gradient.copy_(new)
    return gradients, norm


def _clip_with_norm(norm_of: Callable[[Sequence[Tensor]], Tensor]) -> Callable:
    """A clipping that takes another norm for the length of the whole gradient."""

    def answer(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
        norm = norm_of(gradients)
        factor = (max_norm / norm).clamp(max=1.0)
        return [g * factor for g in gradients], norm

    return answer


def _clip_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    return (
        Case(([normal(4, 3), 5 * normal(3), normal(2, 2, 2)], 1.0), label="three parameters"),
        Case(([0.02 * normal(4, 3), 0.1 * normal(3)], 1.0), label="a gradient below the limit"),
        Case(([20 * normal(5), 0.01 * normal(2, 6)], 2.5), label="one large and one small tensor"),
        Case(([0.6 * normal(1), 0.6 * normal(1)], 0.3), label="two single numbers"),
        Case(([torch.zeros(3), torch.zeros(2, 2)], 1.0), label="a gradient of zeros"),
        Case(([300 * normal(3, 5).T, normal(7)], 0.5), label="a huge gradient, non-contiguous"),
    )


CLIP = Exercise(
    id="05.clip",
    title="Clip by the global norm",
    reference=_clip_by_number,
    cases=_clip_cases,
    # The norm is a number, but one that came out of float32.
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake(
            "each tensor is clipped by its own norm",
            lambda gradients, max_norm: (
                [_clip([g], max_norm)[0][0] for g in gradients],
                _norm(gradients),
            ),
            "Take two tensors of norms 10 and 1 and compare the ratio of their norms before and "
            "after. The step now points elsewhere: one factor must serve all tensors.",
        ),
        Mistake(
            "single values are clipped",
            lambda gradients, max_norm: (
                [g.clamp(-max_norm, max_norm) for g in gradients],
                _norm(gradients),
            ),
            "That is clipping by value. It bends the direction: (10, 1) becomes (1, 1). Shorten "
            "the vector instead.",
        ),
        Mistake(
            "small gradients are scaled up",
            lambda gradients, max_norm: (
                [g * (max_norm / _norm(gradients)).nan_to_num(1.0, 1.0) for g in gradients],
                _norm(gradients),
            ),
            "A gradient of norm 0.1 should stay as it is. What is max_norm / norm then, and what "
            "is the largest factor you want?",
        ),
        Mistake(
            "small gradients are scaled up, and zeros become NaN",
            lambda gradients, max_norm: (
                [g * (max_norm / _norm(gradients)) for g in gradients],
                _norm(gradients),
            ),
            "A gradient of norm 0.1 should stay as it is, and one of norm 0 as well. What is "
            "max_norm / norm then, and what is the largest factor you want?",
        ),
        Mistake(
            "the norms are added up",
            _clip_with_norm(lambda gradients: sum(g.norm() for g in gradients)),
            "Two sides of length 3 and 4 make a diagonal of 5, not 7. Lengths of parts combine by "
            "their squares.",
        ),
        Mistake(
            "the root is missing",
            _clip_with_norm(lambda gradients: sum(g.square().sum() for g in gradients)),
            "For gradients of one number, 0.6 and 0.8, the norm is 1. For 3 and 4 it is 5. What "
            "does yours give?",
        ),
        Mistake(
            "the norm is that of the largest tensor",
            _clip_with_norm(lambda gradients: torch.stack([g.norm() for g in gradients]).max()),
            "All gradients together are one long vector. Every tensor adds to its length, not only "
            "the largest.",
        ),
        Mistake(
            "the norm is returned as it is after clipping",
            lambda gradients, max_norm: (
                _clip(gradients, max_norm)[0],
                _norm(gradients).clamp(max=max_norm),
            ),
            "The gradients are right. Return the norm from before: it is what you watch during "
            "training, and after clipping it could no longer tell you anything.",
        ),
        Mistake(
            "the gradients are changed in place",
            _clip_in_place,
            "The numbers are right, but the caller's tensors have changed. PyTorch's function does "
            "so on purpose; this one should return new tensors.",
        ),
    ),
)

# Warm-up and inverse square root


def _schedule(step: int, warmup_steps: int) -> float:
    return warmup_inverse_sqrt(step, warmup_steps=warmup_steps)


SCHEDULE = Exercise(
    id="05.schedule",
    title="Warm up, then fall with the inverse square root",
    reference=_schedule,
    cases=tuple(
        Case((step, warmup), label=f"step {step}, warmup_steps {warmup}")
        for step, warmup in (
            (0, 10),
            (4, 10),
            (8, 10),
            (9, 10),
            (10, 10),
            (39, 10),
            (999, 10),
            (0, 1),
            (3, 1),
            (0, 4000),
            (99_999, 4000),
        )
    ),  # fmt: skip
    mistakes=(
        Mistake(
            "the first update has rate 0",
            lambda step, warmup_steps: (
                min(step / warmup_steps, math.sqrt(warmup_steps / step)) if step else 0.0
            ),
            "Step 0 is the first update. With a rate of 0 its batch is wasted, and the peak comes "
            "one update late. Count updates from 1.",
        ),
        Mistake(
            "the first update divides by zero",
            lambda step, warmup_steps: min(step / warmup_steps, math.sqrt(warmup_steps / step)),
            "Step 0 is the first update. Count updates from 1, as the paper's s does.",
        ),
        Mistake(
            "the larger of the two is taken instead of the smaller",
            lambda step, warmup_steps: max(
                (step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1))
            ),
            "Yours starts above 1 and never comes to rest. Plot both curves: which one is meant to "
            "hold first, and is it the higher or the lower one?",
        ),
        Mistake(
            "the warm-up never ends",
            lambda step, warmup_steps: (step + 1) / warmup_steps,
            "Print the value at step 2 * warmup_steps: it is above 1, the peak.",
        ),
        Mistake(
            "there is no decay after the warm-up",
            lambda step, warmup_steps: min(1.0, (step + 1) / warmup_steps),
            "The first half is right. After the peak the rate should fall; yours stays.",
        ),
        Mistake(
            "the rate jumps down where the warm-up ends",
            lambda step, warmup_steps: (
                (step + 1) / warmup_steps if step < warmup_steps else 1 / math.sqrt(step + 1)
            ),
            "Compare the values just before and just after the warm-up: 1 and about "
            "1 / √warmup_steps. Which factor makes the fall begin at 1?",
        ),
        Mistake(
            "the decay counts its steps from the end of the warm-up",
            lambda step, warmup_steps: (
                (step + 1) / warmup_steps
                if step < warmup_steps
                else 1 / math.sqrt(step - warmup_steps + 2)
            ),
            "It starts at 1, but then falls to 0.7 within one update. The inverse square root "
            "counts all updates, the warm-up included.",
        ),
        Mistake(
            "the paper's formula is not divided by its peak",
            lambda step, warmup_steps: min((step + 1) ** -0.5, (step + 1) * warmup_steps**-1.5),
            "The shape is right. The largest value should be 1; yours is 1 / √warmup_steps.",
        ),
    ),
)

# A step with loss scaling


def _finite(gradients: Sequence[Tensor]) -> bool:
    return all(bool(g.isfinite().all()) for g in gradients)


def _unscale(
    gradients: Sequence[Tensor], scale: float, max_norm: float
) -> tuple[list[Tensor] | None, float]:
    if not _finite(gradients):
        return None, scale / 2
    return _clip([g.float() / scale for g in gradients], max_norm)[0], scale


def _unscale_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(6)

    def half(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(*shape, generator=draw)).half()

    overflown, undefined = half(3, 2), half(4)
    overflown[1, 1], undefined[2] = -math.inf, math.nan
    return (
        Case(([half(3, 4, size=9.0), half(5, size=90.0)], 1024.0, 1.0), label="below the limit"),
        Case(([half(3, 4, size=2e3), half(2, size=9e3)], 1024.0, 1.0), label="above the limit"),
        Case(([half(4), overflown], 65536.0, 1.0), label="-inf in the second tensor"),
        Case(([undefined, half(2)], 512.0, 1.0), label="NaN in the first tensor"),
        Case(([half(6, size=1e-3)], 65536.0, 1.0), label="true gradients around 1e-8"),
        Case(([half(2, 3, size=3.0)], 1.0, 0.5), label="scale 1"),
    )


UNSCALE = Exercise(
    id="05.unscale",
    title="A step with loss scaling",
    reference=_unscale,
    cases=_unscale_cases,
    # A gradient of 1e-8 must not count as equal to zero.
    atol=1e-12,
    mistakes=(
        Mistake(
            "clipped before unscaled",
            lambda gradients, scale, max_norm: (
                ([g / scale for g in _clip([g.float() for g in gradients], max_norm)[0]], scale)
                if _finite(gradients)
                else (None, scale / 2)
            ),
            "max_norm is meant for true gradients. Scaled ones are a thousand times longer, so "
            "yours are nearly always clipped, and then divided on top. Swap two lines.",
        ),
        Mistake(
            "not unscaled",
            lambda gradients, scale, max_norm: (
                (_clip([g.float() for g in gradients], max_norm)[0], scale)
                if _finite(gradients)
                else (None, scale / 2)
            ),
            "The loss was multiplied by `scale`, so the gradients were too. Where does your code "
            "take that back?",
        ),
        Mistake(
            "multiplied by the scale once more",
            lambda gradients, scale, max_norm: (
                (_clip([g.float() * scale for g in gradients], max_norm)[0], scale)
                if _finite(gradients)
                else (None, scale / 2)
            ),
            "The gradients come in too large by the factor `scale`. Undo that.",
        ),
        Mistake(
            "overflows are not skipped",
            lambda gradients, scale, max_norm: (
                _clip([g.float() / scale for g in gradients], max_norm)[0],
                scale,
            ),
            "Look at the input with an infinity: after clipping, every gradient is 0 or NaN, and "
            "the NaN would enter the weights. Such a step must return None.",
        ),
        Mistake(
            "infinities are skipped, NaN is not",
            lambda gradients, scale, max_norm: (
                (None, scale / 2)
                if any(bool(g.isinf().any()) for g in gradients)
                else (_clip([g.float() / scale for g in gradients], max_norm)[0], scale)
            ),
            "inf - inf and 0 * inf give NaN, so an overflow often arrives as NaN. Which test "
            "catches both?",
        ),
        Mistake(
            "the scale stays after an overflow",
            lambda gradients, scale, max_norm: (_unscale(gradients, scale, max_norm)[0], scale),
            "The step is skipped, but the next one will overflow again. What must change?",
        ),
        Mistake(
            "the scale is halved after every step",
            lambda gradients, scale, max_norm: (
                _unscale(gradients, scale, max_norm)[0],
                scale / 2,
            ),
            "After a few dozen good steps no scale would be left. Only an overflow halves it.",
        ),
        Mistake(
            "the division happens in fp16",
            lambda gradients, scale, max_norm: (
                (_clip([(g / scale).float() for g in gradients], max_norm)[0], scale)
                if _finite(gradients)
                else (None, scale / 2)
            ),
            "Look at the input with gradients around 1e-8: divided in fp16, they become zero "
            "again. Make them fp32 first.",
        ),
    ),
)

# Find the bug: a loop that does not learn

Batches = Sequence[tuple[Tensor, Tensor]]


def broken_training(
    make_model: Callable[[], nn.Module], batches: Batches, lr: float
) -> list[float]:
    """The faulty function of "find the bug": two mistakes that raise no error."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        probabilities = model(inputs).softmax(dim=-1)
        loss = F.cross_entropy(probabilities, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _training(
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    zero: str = "before backward",
) -> Callable[..., list[float]]:
    """The loop, with this loss, and with gradients set to zero at this place."""

    def answer(make_model: Callable[[], nn.Module], batches: Batches, lr: float) -> list[float]:
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        losses = []
        for inputs, labels in batches:
            loss = loss_of(model(inputs), labels)
            if zero == "before backward":
                optimizer.zero_grad()
            loss.backward()
            if zero == "after backward":
                optimizer.zero_grad()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return answer


def _softmax_first(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.softmax(dim=-1), labels)


def _training_cases() -> tuple[Case, ...]:
    def case(sizes: tuple[int, int, int], steps: int, lr: float, label: str, same=False) -> Case:
        rows, width, classes = sizes
        draw = torch.Generator().manual_seed(steps)
        weights = {
            "weight": torch.randn(classes, width, generator=draw),
            "bias": torch.randn(classes, generator=draw),
        }

        def make_model() -> nn.Module:
            model = nn.Linear(width, classes)
            model.load_state_dict(weights)
            return model

        batches = [
            (
                torch.randn(rows, width, generator=draw),
                torch.randint(classes, (rows,), generator=draw),
            )
            for _ in range(steps)
        ]
        return Case((make_model, batches[:1] * steps if same else batches, lr), label=label)

    return (
        case((6, 4, 5), 4, 0.5, "four batches, five classes"),
        case((3, 7, 4), 6, 1.0, "the same batch six times", same=True),
        case((8, 3, 2), 3, 0.1, "two classes, a small rate"),
        case((1, 5, 9), 5, 0.3, "one example a batch"),
    )


TRAINING_BUG = Exercise(
    id="05.training_bug",
    title="Find the bug: the loss that would not fall",
    reference=_training(),
    cases=_training_cases,
    start=broken_training,
    mistakes=(
        Mistake(
            "old gradients are still added up",
            _training(zero="never"),
            "The loss is right now. Print `model.weight.grad.norm()` after each backward on the "
            "same batch: `backward` adds to what is there. One call is missing.",
        ),
        Mistake(
            "the softmax is still applied twice",
            _training(_softmax_first),
            "The gradients are fresh now, but the loss still cannot fall far. Read what "
            "`F.cross_entropy` expects: logits, or probabilities?",
        ),
        Mistake(
            "the gradients are erased before the update",
            _training(zero="after backward"),
            "The loss function is right, but the weights never move: compare them before and "
            "after. What does the optimizer find in `.grad` when `step` is called?",
        ),
        Mistake(
            "the gradients are erased before the update, and the softmax is still there",
            _training(_softmax_first, zero="after backward"),
            "The weights never move: what does the optimizer find in `.grad` when `step` is "
            "called? And there is a second mistake, in the loss.",
        ),
        Mistake(
            "the logarithm is missing",
            _training(lambda logits, labels: F.nll_loss(logits.softmax(dim=-1), labels)),
            "`nll_loss` expects log-probabilities. Your loss is negative, and a confident model "
            "gets no large penalty for being wrong.",
        ),
        Mistake(
            "the loss is summed over the batch",
            _training(lambda logits, labels: F.cross_entropy(logits, labels, reduction="sum")),
            "The step now grows with the size of the batch. The loss is a mean over the examples.",
        ),
    ),
)

EXERCISES = (CLIP, SCHEDULE, UNSCALE, TRAINING_BUG)
