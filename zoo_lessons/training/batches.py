"""An endless stream of batches that knows its place, and moving batches to a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from zoo_lessons.training.random_state import get_random_state, set_random_state

Batch = Any
Batches = Iterable[Batch] | Callable[[int], Batch]

_END = object()


class BatchStream:
    """Batches for as many steps as training takes.

    A function of the step is called with the step. An iterable (a list, a `DataLoader`) is read
    from its start again whenever it ends.

    Raises:
        TypeError: `batches` is neither, or is a single batch (a tensor or a dict).
    """

    def __init__(self, batches: Batches) -> None:
        if isinstance(batches, torch.Tensor | Mapping):
            raise TypeError(
                f"batches is one {type(batches).__name__}, which looks like a single batch: "
                "pass a list of batches, a DataLoader, or a function of the step"
            )
        if not isinstance(batches, Iterable) and not callable(batches):
            raise TypeError(
                "batches must be an iterable or a function of the step, "
                f"got {type(batches).__name__}"
            )
        self._batches = batches
        self._iterator = None
        self._served = 0  # batches taken since the iterable was last started
        self._random_state = None  # ... and the random state at that moment

    def next(self, step: int) -> Batch:
        """The batch for `step`.

        Raises:
            ValueError: the iterable is empty, or is a generator that has ended.
        """
        if not isinstance(self._batches, Iterable):
            return self._batches(step)
        if self._iterator is None:
            self._start()
        batch = next(self._iterator, _END)
        if batch is _END:
            served = self._served
            self._start()
            batch = next(self._iterator, _END)
            if batch is _END and served == 0:
                raise ValueError("batches is empty: at least one batch is needed")
            if batch is _END:
                raise ValueError(
                    f"batches ended after {served} and cannot be read again: instead of a "
                    "generator, pass a list, a DataLoader, or a function of the step"
                )
        self._served += 1
        return batch

    def place(self) -> dict[str, Any]:
        """Where the stream stands, JSON-able; `go_to` brings a new stream there."""
        return {"served": self._served, "random_state": self._random_state}

    def go_to(self, place: dict[str, Any]) -> None:
        """Read on from `place`, given the same batches.

        A shuffling `DataLoader` draws its order when it is started. So the random state of that
        moment comes back first, and then the batches already used are passed over.
        """
        if place["random_state"] is None:
            return
        set_random_state(place["random_state"])
        self._start()
        for _ in range(place["served"]):
            self.next(step=0)

    def _start(self) -> None:
        self._random_state = get_random_state()
        self._iterator = iter(self._batches)
        self._served = 0


def move_to(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor inside tuples, lists and dicts on `device`."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: move_to(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*(move_to(item, device) for item in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(move_to(item, device) for item in batch)
    return batch
