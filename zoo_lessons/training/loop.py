"""The training loop itself: `training_steps`, and the few functions that it names."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from zoo_lessons.layers.checks import NaNError
from zoo_lessons.training.batches import Batch, BatchStream, move_to
from zoo_lessons.training.history import StepRecord

LossFunction = Callable[[nn.Module, Batch], Tensor]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def training_steps(
    model: nn.Module,
    stream: BatchStream,
    loss_fn: LossFunction,
    optimizer: torch.optim.Optimizer,
    *,
    steps: range,
    rates: Callable[[int], list[float]],
    clip_norm: float | None,
    precision: str,
    scaler: torch.amp.GradScaler,
    device: torch.device,
    stop_at_divergence: bool,
    track_updates: bool,
) -> Iterator[StepRecord]:
    """Make one training step after another and yield a record of each.

    `fit` calls this and explains the arguments. `rates(step)` gives the learning rate of each
    parameter group. The scaler does nothing unless the precision is "fp16".
    """
    started = time.perf_counter()
    for step in steps:
        batch = move_to(stream.next(step), device)
        rate = set_learning_rates(optimizer, rates(step))
        try:
            loss = compute_loss(model, batch, loss_fn, precision, device)
        except NaNError:  # a layer refused what the last update has left
            if step == 0:
                raise  # there was no update: its message says where to look
            loss = torch.tensor(math.nan)
        if not loss.isfinite() and (stop_at_divergence or not loss.requires_grad):
            yield StepRecord(step, loss.item(), rate, seconds=time.perf_counter() - started)
            return  # before the update, which would spoil the weights

        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        grad_norm = clip_gradients(optimizer, clip_norm)
        old_weights = copy_weights(optimizer) if track_updates else None
        updated = make_update(optimizer, scaler)

        yield StepRecord(
            step,
            loss.item(),
            rate,
            grad_norm,
            relative_change(old_weights, optimizer) if track_updates else math.nan,
            seconds=time.perf_counter() - started,
            skipped=not updated,
        )


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: list[float]) -> float:
    """Give each parameter group its learning rate; returns the first."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return rates[0]


def compute_loss(
    model: nn.Module, batch: Batch, loss_fn: LossFunction, precision: str, device: torch.device
) -> Tensor:
    """The loss of one batch, with matrix products in `precision`.

    Raises:
        TypeError: the loss is no tensor.
        ValueError: it is no scalar, or no gradient can flow from it.
    """
    lower = precision != "fp32"
    with torch.autocast(device.type, dtype=PRECISIONS[precision], enabled=lower):
        loss = loss_fn(model, batch)
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn must return a scalar tensor, got {type(loss).__name__}")
    if loss.ndim != 0:
        raise ValueError(
            f"loss_fn must return a scalar tensor, got shape {tuple(loss.shape)}: take its mean"
        )
    if not loss.requires_grad:
        raise ValueError(
            "the loss does not depend on the model's parameters (loss.requires_grad is False): "
            "was it computed under no_grad, or detached?"
        )
    return loss


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float | None) -> float:
    """Scale the whole gradient down to `max_norm` if it is longer; returns its norm before that.

    All gradients together count as one long vector, so clipping keeps its direction (Pascanu et al.
    2013, "On the difficulty of training recurrent neural networks", algorithm 1).

    Raises:
        ValueError: no parameter has a gradient.
    """
    parameters = [p for p in optimized_parameters(optimizer) if p.grad is not None]
    if not parameters:
        raise ValueError(
            "no gradient has reached the optimizer's parameters: does the loss depend on them?"
        )
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm.item()


def make_update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> bool:
    """Update the weights, unless a fp16 gradient has overflowed; returns whether it was done.

    After an overflow the scaler leaves the weights alone and halves its scale.
    """
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= scale


def copy_weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """A copy of every parameter that the optimizer updates."""
    return [p.detach().clone() for p in optimized_parameters(optimizer)]


def relative_change(old: list[Tensor], optimizer: torch.optim.Optimizer) -> float:
    """Norm of the change since `old`, over the norm of `old`, all weights taken as one vector."""
    changes = [
        new.detach() - before
        for new, before in zip(optimized_parameters(optimizer), old, strict=True)
    ]
    total_norm = torch.nn.utils.get_total_norm
    return (total_norm(changes) / total_norm(old)).item()


def optimized_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
