"""What a training run went through, step by step, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch


@dataclass(frozen=True)
class StepRecord:
    """One step of training.

    Attributes:
        step: number of the step, 0 for the first.
        loss: the loss before the update.
        lr: learning rate of the update (of the first parameter group).
        grad_norm: norm of the whole gradient before clipping; not a number where no gradient was
            computed.
        update_ratio: norm of the change of the weights over the norm of the weights; not a number
            unless `fit(..., track_updates=True)`.
        seconds: time since training began.
        skipped: whether fp16 gradients overflowed, so that the weights were left as they were.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float = math.nan
    update_ratio: float = math.nan
    seconds: float = math.nan
    skipped: bool = False


class History:
    """The steps of a run as arrays: `history.loss`, `history.lr`, and so on; see `StepRecord`.

    Attributes:
        step, loss, lr, grad_norm, update_ratio, seconds: arrays with one entry per step.
        skipped: numbers of the steps whose fp16 gradients overflowed.
        interrupted: whether the run was interrupted.
        diverged_at: the first step whose loss was not finite, or None.
    """

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.records)

    def append(self, record: StepRecord) -> None:
        self.records.append(record)

    def columns(self) -> dict[str, np.ndarray]:
        """Every field of the records as an array over the steps."""
        return {field.name: self._column(field.name) for field in fields(StepRecord)}

    def restore(self, columns: Mapping[str, torch.Tensor]) -> None:
        """Replace the records by those of `columns`, as `columns()` gave them."""
        rows = zip(*(columns[field.name].tolist() for field in fields(StepRecord)), strict=True)
        self.records = [StepRecord(*row) for row in rows]

    def _column(self, name: str) -> np.ndarray:
        return np.array([getattr(record, name) for record in self.records])

    @property
    def step(self) -> np.ndarray:
        return self._column("step")

    @property
    def loss(self) -> np.ndarray:
        return self._column("loss")

    @property
    def lr(self) -> np.ndarray:
        return self._column("lr")

    @property
    def grad_norm(self) -> np.ndarray:
        return self._column("grad_norm")

    @property
    def update_ratio(self) -> np.ndarray:
        return self._column("update_ratio")

    @property
    def seconds(self) -> np.ndarray:
        return self._column("seconds")

    @property
    def skipped(self) -> np.ndarray:
        return np.flatnonzero(self._column("skipped"))

    @property
    def diverged_at(self) -> int | None:
        bad = np.flatnonzero(~np.isfinite(self.loss))
        return int(bad[0]) if len(bad) else None

    @property
    def diverged(self) -> bool:
        """Whether some loss was not finite."""
        return self.diverged_at is not None

    @property
    def ended_badly(self) -> bool:
        """Whether the last loss was not finite."""
        return bool(self.records) and not math.isfinite(self.records[-1].loss)

    def __repr__(self) -> str:
        """Steps, first and last loss, and what went wrong. No times, which differ between runs."""
        if not self.records:
            return "History: no steps"
        first, last = self.records[0].loss, self.records[-1].loss
        parts = [f"{len(self)} steps", f"loss {first:.3f} -> {last:.3f}"]
        if len(self.skipped):
            parts.append(f"{len(self.skipped)} skipped (fp16 overflow)")
        if self.diverged:
            parts.append(f"diverged at step {self.diverged_at}")
        if self.interrupted:
            parts.append("interrupted")
        return "History: " + ", ".join(parts)
