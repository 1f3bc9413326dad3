"""Models that the course trained itself, kept in `data/checkpoints/`.

A lesson trains for some seconds. Where a longer run is needed, an experiment trains the model
once, and the lesson loads what it left. Each checkpoint is a folder:

- `config.json`: the model's class and its sizes;
- `model.safetensors`: its weights in half precision, which halves the file;
- `tokenizer.json`: the tokenizer that it was trained with, if it has one. Prose differs between
  versions of Python, so a tokenizer trained again would give other ids.

A model that was fine-tuned from a large encoder is kept as its *change* (`save_change`): each
matrix's difference to the pretrained one, cut to a low rank, as in LoRA (Hu et al. 2021,
arXiv:2106.09685). The pretrained weights are on every learner's disk already.

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
import torch
from torch import nn

from zoo_lessons.paths import data_dir
from zoo_lessons.weights import load_pretrained, load_tokenizer, sha256

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
    folder, about = _folder(name), _about(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    safetensors.torch.save_model(copy.deepcopy(model).cpu().half(), str(weights))
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"name": name, "sha256": sha256(weights), "bytes": size}


def save_change(name: str, model: nn.Module, *, encoder: str, rank: int) -> dict[str, Any]:
    """Write what fine-tuning changed to `data/checkpoints/NAME/`, for an experiment to record.

    Kept are the head, whole; of the encoder, the differences of its vectors, and those of its
    matrices as a product of two of `rank` columns and rows: the best there is of this rank, by
    singular values. So the model is rounded: take figures from `load_trained(name)`.

    Args:
        name: lower case, digits and underscores.
        model: with the fine-tuned encoder as `model.bert`; a model of `zoo_lessons.models`.
        encoder: what it was fine-tuned from, a name that `load_pretrained` takes, "minilm".
        rank: of a matrix's change.

    Returns:
        {"name", "sha256" of the weights, "bytes" of the folder}, to be put into the record.

    Raises:
        ValueError: as `save_trained`, or a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1")
    folder, about = _folder(name), _about(model)
    before = load_pretrained(encoder).state_dict()
    kept = {}
    for key, after in model.state_dict().items():
        start = before[key.removeprefix("bert.")] if key.startswith("bert.") else None
        if start is None:
            kept[key] = after
        elif not torch.equal(start, after):
            change = after - start
            if change.ndim == 2 and min(change.shape) > rank:
                left, sizes, right = torch.linalg.svd(change, full_matrices=False)
                kept[f"{key}.left"] = left[:, :rank] * sizes[:rank]
                kept[f"{key}.right"] = right[:rank]
            else:
                kept[f"{key}.change"] = change
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "encoder": encoder, "rank": rank}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    halves = {key: value.half().contiguous() for key, value in kept.items()}
    safetensors.torch.save_file(halves, str(weights))
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"name": name, "sha256": sha256(weights), "bytes": size}


def load_trained(name: str) -> nn.Module:
    """The trained model of `data/checkpoints/NAME/`, in float32 and in evaluation mode.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists those that there are.
        ValueError: a name that cannot be a folder's, or a config.json that names a class from
            elsewhere: it must not choose what is imported.
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
    weights = folder / "model.safetensors"
    if "encoder" in about:
        _add_change(model, load_pretrained(about["encoder"]), safetensors.torch.load_file(weights))
    else:
        safetensors.torch.load_model(model, str(weights), strict=True)
    return model.eval()


def trained_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of `data/checkpoints/NAME/`.

    Raises:
        FileNotFoundError: there is no such checkpoint, or it has no tokenizer.
    """
    return load_tokenizer(_existing(name))


def _about(model: nn.Module) -> dict[str, Any]:
    """What `load_trained` needs to build the model. ValueError for a model from elsewhere."""
    kind = type(model)
    if not kind.__module__.startswith("zoo_lessons.models."):
        raise ValueError(f"{kind.__module__}.{kind.__name__} is not a model of zoo_lessons.models")
    return {
        "module": kind.__module__,
        "model": kind.__name__,
        "config_class": type(model.config).__name__,
        "config": asdict(model.config),
    }


def _add_change(model: nn.Module, encoder: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Fill the model with the encoder's weights plus what `save_change` kept, strictly."""
    before = encoder.state_dict()
    after = {}
    for key in model.state_dict():
        start = before[key.removeprefix("bert.")] if key.startswith("bert.") else None
        if start is None:
            after[key] = kept.pop(key)
        elif f"{key}.left" in kept:
            after[key] = start + kept.pop(f"{key}.left").float() @ kept.pop(f"{key}.right").float()
        elif f"{key}.change" in kept:
            after[key] = start + kept.pop(f"{key}.change").float()
        else:
            after[key] = start
    if kept:
        raise RuntimeError(f"the checkpoint has weights that the model lacks: {sorted(kept)}")
    model.load_state_dict(after, strict=True)


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
