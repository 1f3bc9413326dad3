"""Stopping a training run and going on later, to the last bit.

A checkpoint folder holds one file, `training.safetensors`: the weights, the optimizer's tensors
and the history as tensors, and everything else (the optimizer's settings, the gradient scaler, the
place in the batches, the random generators) as JSON in the file's metadata. One file can be
replaced in one piece: whenever a run dies, the folder holds the previous checkpoint or the new one,
whole. Nothing is pickled, so loading a checkpoint cannot run code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo_lessons.training.batches import BatchStream
from zoo_lessons.training.history import History
from zoo_lessons.training.random_state import get_random_state, set_random_state

FILE_NAME = "training.safetensors"


class Checkpoint:
    """Saves and restores a run; with `folder=None` it does nothing.

    A run is saved as it stood at the last `mark`, which the loop calls between two steps. An
    interrupt in the middle of a step may already have taken a batch or drawn random numbers for it;
    the mark makes the resumed run take and draw them again.
    """

    def __init__(
        self,
        folder: str | Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        stream: BatchStream,
        history: History,
    ) -> None:
        self.path = None if folder is None else Path(folder) / FILE_NAME
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.stream, self.history = stream, history
        self._mark: dict[str, Any] = {}

    def mark(self) -> None:
        """Remember this moment, between two steps, as the one that `save` saves."""
        if self.path is not None:
            self._mark = {
                "steps": len(self.history),
                "batches": self.stream.place(),
                "random_state": get_random_state(),
            }

    def save(self) -> None:
        """Write the run to its folder, in one piece or not at all.

        A run whose last loss is not finite is not written: the last good checkpoint is worth more.
        """
        if self.path is None or self.history.ended_badly:
            return
        if self._mark["steps"] < len(self.history):  # interrupted after a step, before its mark
            self.mark()
        tensors, optimizer_settings = _split_optimizer_state(self.optimizer.state_dict())
        tensors |= {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {
            f"history/{name}": torch.from_numpy(values)
            for name, values in self.history.columns().items()
        }
        settings = {
            "optimizer": optimizer_settings,
            "scaler": self.scaler.state_dict(),
            **self._mark,
        }
        # Cloned, because tied weights share memory and safetensors refuses that.
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        save_file(tensors, unfinished, metadata={"settings": json.dumps(settings)})
        os.replace(unfinished, self.path)

    def restore(self, steps: int) -> None:
        """Bring the run to where the checkpoint left it. Without a checkpoint, change nothing.

        Args:
            steps: length of the whole run that is to be resumed.

        Raises:
            RuntimeError: the checkpoint belongs to another model.
            ValueError: it belongs to another optimizer, or has made more than `steps` steps.
        """
        if self.path is None or not self.path.exists():
            return
        with safe_open(self.path, framework="pt") as file:
            settings = json.loads(file.metadata()["settings"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if settings["steps"] > steps:
            raise ValueError(
                f"the checkpoint in {self.path.parent} has made {settings['steps']} steps already, "
                f"got steps={steps}"
            )
        self.model.load_state_dict(_with_prefix(tensors, "model/"))
        self.optimizer.load_state_dict(
            _join_optimizer_state(_with_prefix(tensors, "optimizer/"), settings["optimizer"])
        )
        self.scaler.load_state_dict(settings["scaler"])
        self.history.restore(_with_prefix(tensors, "history/"))
        self.stream.go_to(settings["batches"])
        set_random_state(settings["random_state"])


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _split_optimizer_state(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, named `optimizer/INDEX/NAME`, and the rest, which must be JSON-able."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        scalars[str(index)] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars[str(index)][name] = value
    return tensors, {"state": scalars, "param_groups": state["param_groups"]}


def _join_optimizer_state(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state = {int(index): dict(values) for index, values in rest["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state[int(index)][name] = value
    return {"state": state, "param_groups": rest["param_groups"]}
