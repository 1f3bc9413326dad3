"""`fit`: train a model, with everything around the loop that a real run needs.

The loop itself is `training.loop.training_steps`. Each thing around it has a module of its own in
this folder: the stream of batches, checkpoints, the history, the progress bar, interrupts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from zoo_lessons.training.batches import Batches, BatchStream
from zoo_lessons.training.checkpoints import Checkpoint
from zoo_lessons.training.history import History, StepRecord
from zoo_lessons.training.interrupts import InterruptRequest
from zoo_lessons.training.loop import (
    PRECISIONS,
    LossFunction,
    set_learning_rates,
    training_steps,
)
from zoo_lessons.training.progress import progress_bar
from zoo_lessons.training.random_state import seed_everything
from zoo_lessons.training.schedules import Schedule, schedule_by_name


def fit(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    *,
    steps: int,
    lr: float = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    weight_decay: float = 0.01,
    schedule: Schedule | str | None = None,
    clip_norm: float | None = 1.0,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    device: str | torch.device | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    on_divergence: Literal["stop", "continue"] = "stop",
    track_updates: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
    seed: int | None = None,
) -> History:
    """Train `model` in place for `steps` updates, one batch each.

    An interrupt (Kernel -> Interrupt, or Ctrl-C) ends the run after the step that is under way; the
    model keeps what it has learned. A second interrupt stops at once.

    Args:
        model: moved to `device`. It returns in the mode (training or evaluation) that it came in.
        batches: an iterable of batches, read again from its start whenever it ends, or a function
            from the step to a batch. Tensors in tuples, lists and dicts are moved to the device.
        loss_fn: `loss_fn(model, batch)` returns a scalar tensor.
        steps: length of the whole run, in updates.
        lr: the peak learning rate.
        optimizer: an optimizer over the model's parameters; its own rates are the peak rates, and
            `lr` and `weight_decay` are not used. By default AdamW (Loshchilov & Hutter 2019).
        weight_decay: AdamW's decoupled weight decay.
        schedule: a function from the step to a share of the peak rate, or the name of one in
            `training.schedules`. By default the rate stays at its peak.
        clip_norm: a gradient whose norm is larger is scaled down to this norm; None never clips.
        precision: "fp32", or mixed precision "bf16" or "fp16": weights stay in fp32, matrix
            products run in 16 bits. "fp16" scales the loss so that small gradients survive
            (Micikevicius et al. 2018, section 3.2).
        device: by default the GPU if CUDA finds one, else the CPU.
        on_step: called with the record of each step.
        on_divergence: "stop" ends the run at the first loss that is not finite, before its update;
            "continue" goes on as long as the model still gives a loss.
        track_updates: also measure how far each update moves the weights (needs a copy of them).
        checkpoint: folder in which to save the run, at its end or when it is interrupted.
        checkpoint_every: save also after every so many steps.
        resume: go on from the checkpoint if the folder holds one. The run then gives what it would
            have given in one piece, to the last bit, if its batches can be had again: from a
            function of the step, a list, or a `DataLoader` that shuffles with the global generator.
        progress: show a progress bar with the loss and the time left.
        seed: seed Python, NumPy and PyTorch before the first step.

    Returns:
        The history: loss, learning rate and gradient norm of each step, and how the run ended.

    Raises:
        ValueError: an argument is out of range, the batches end, or the loss is not a scalar that
            depends on the parameters.
        TypeError: `batches` or the loss is of the wrong type.
        FloatingPointError: the first loss is not finite, and `on_divergence` is "stop".
    """
    _check_arguments(steps, clip_norm, on_divergence, checkpoint, checkpoint_every, resume)
    device = pick_device(device)
    scaler = gradient_scaler(precision, device)
    if seed is not None:
        seed_everything(seed)
    model.to(device)
    if optimizer is None:
        parameters = trainable_parameters(model)
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    if schedule is None or isinstance(schedule, str):
        schedule = schedule_by_name(schedule or "constant", total_steps=steps)
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    stream, history = BatchStream(batches), History()
    saved = Checkpoint(checkpoint, model, optimizer, scaler, stream, history)
    if resume:
        saved.restore(steps)
    saved.mark()

    seconds_before = history.seconds[-1] if len(history) else 0.0
    was_training = model.training
    model.train()
    records = training_steps(
        model,
        stream,
        loss_fn,
        optimizer,
        steps=range(len(history), steps),
        rates=lambda step: [schedule(step) * peak for peak in peak_rates],
        clip_norm=clip_norm,
        precision=precision,
        scaler=scaler,
        device=device,
        stop_at_divergence=on_divergence == "stop",
        track_updates=track_updates,
    )
    bar = progress_bar(steps, done=len(history), enabled=progress)
    with InterruptRequest() as interrupt, bar:
        try:
            for record in records:
                record = replace(record, seconds=record.seconds + seconds_before)
                history.append(record)
                bar.step(record.loss)
                if on_step is not None:
                    on_step(record)
                saved.mark()
                if checkpoint_every and len(history) % checkpoint_every == 0:
                    saved.save()
                interrupt.check()
        except KeyboardInterrupt:
            if interrupt.insisted:
                raise
            history.interrupted = True
        finally:
            model.train(was_training)
            set_learning_rates(optimizer, peak_rates)

    saved.save()
    if history.ended_badly and on_divergence == "stop":
        _report_divergence(history.records[-1])
    return history


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or else the GPU if CUDA finds one, or else the CPU.

    Raises:
        ValueError: a CUDA device is asked for and none is there.
    """
    cuda = torch.cuda.is_available()
    device = torch.device(device if device is not None else "cuda" if cuda else "cpu")
    if device.type == "cuda" and not cuda:
        raise ValueError(f"device={str(device)!r}, but PyTorch finds no CUDA GPU here: use 'cpu'")
    return device


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler that works for "fp16" and does nothing for the other precisions.

    fp16 loses numbers below about 6e-8, where many gradients lie; bf16 has the range of fp32.

    Raises:
        ValueError: an unknown precision, or one that the device does not support.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}"
        )
    if precision != "fp32" and device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"precision={precision!r} is supported on cpu and cuda, not on {device.type}"
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"{torch.cuda.get_device_name(device)} has no bf16: use 'fp16' or 'fp32'")
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that ask for a gradient.

    Raises:
        ValueError: there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter with requires_grad=True")
    return parameters


def _check_arguments(
    steps: int,
    clip_norm: float | None,
    on_divergence: str,
    checkpoint: str | Path | None,
    checkpoint_every: int | None,
    resume: bool,
) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(
            f"clip_norm={clip_norm} must be positive, or None to leave gradients alone"
        )
    if on_divergence not in ("stop", "continue"):
        raise ValueError(f"on_divergence={on_divergence!r} must be 'stop' or 'continue'")
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ValueError(
            "resume and checkpoint_every need a checkpoint folder, got checkpoint=None"
        )
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every={checkpoint_every} must be at least 1")


def _report_divergence(last: StepRecord) -> None:
    if last.step == 0:
        raise FloatingPointError(
            f"loss is {last.loss} at step 0: before any update, so look for the cause in the "
            "batch, the model or the loss function"
        )
    print(
        f"Training stopped: loss is {last.loss} at step {last.step}. The weights are as step "
        f"{last.step - 1} left them. Try a lower learning rate, a longer warm-up, or clipping."
    )
