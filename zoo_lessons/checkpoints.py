"""Models that the course trained itself, kept in `data/checkpoints/`.

A lesson trains for some seconds. Where a longer run is needed, an experiment trains the model
once, and the lesson loads what it left. Each checkpoint is a folder:

- `config.json`: the model's class and its sizes;
- `model.safetensors`: its weights in half precision, which halves the file;
- `tokenizer.json`: the tokenizer that it was trained with, if it has one. Prose differs between
  versions of Python, so a tokenizer trained again would give other ids.

The experiment's record holds the sha256 of the weights; a test compares them.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import nn

from zoo_lessons.paths import data_dir
from zoo_lessons.weights import load_tokenizer, sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def save_trained(name: str, model: nn.Module, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """Write a trained model to `data/checkpoints/NAME/`, for an experiment to record.

    The weights are rounded to float16: figures that go with a checkpoint must be taken from
    `load_trained(name)`, not from the model before it was saved.

    Args:
        name: lower case, digits and underscores.
        model: a model of `zoo_lessons.models`, built from its `config` alone.
        tokenizer: goes with the model, if given.

    Returns:
        {"name", "sha256" of the weights, "bytes" of the folder}, to be put into the record.

    Raises:
        ValueError: a name that cannot be a folder's, or a model from elsewhere.
    """
    folder = _folder(name)
    kind = type(model)
    if not kind.__module__.startswith("zoo_lessons.models."):
        raise ValueError(f"{kind.__module__}.{kind.__name__} is not a model of zoo_lessons.models")
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "module": kind.__module__,
        "model": kind.__name__,
        "config_class": type(model.config).__name__,
        "config": asdict(model.config),
    }
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    safetensors.torch.save_model(copy.deepcopy(model).cpu().half(), str(weights))
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"name": name, "sha256": sha256(weights), "bytes": size}


def load_trained(name: str) -> nn.Module:
    """The trained model of `data/checkpoints/NAME/`, in float32 and in evaluation mode.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists those that there are.
        RuntimeError: the weights do not fit the model.
    """
    folder = _existing(name)
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not about["module"].startswith("zoo_lessons.models."):
        raise ValueError(
            f"checkpoint {name!r} names {about['module']}, expected zoo_lessons.models"
        )
    module = importlib.import_module(about["module"])
    config = getattr(module, about["config_class"])(**about["config"])
    model = getattr(module, about["model"])(config)
    safetensors.torch.load_model(model, str(folder / "model.safetensors"), strict=True)
    return model.eval()


def trained_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of `data/checkpoints/NAME/`.

    Raises:
        FileNotFoundError: there is no such checkpoint, or it has no tokenizer.
    """
    return load_tokenizer(_existing(name))


def _folder(name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"checkpoint name {name!r} must be lower case, digits and underscores")
    return data_dir() / "checkpoints" / name


def _existing(name: str) -> Path:
    folder = _folder(name)
    if not (folder / "config.json").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/config.json"))
        raise FileNotFoundError(
            f"no checkpoint {name!r} in data/checkpoints; there are: {', '.join(there) or 'none'}"
        )
    return folder
