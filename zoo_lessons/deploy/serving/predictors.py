"""The models behind one interface: a list of inputs goes in, a list of answers comes out.

Nothing here knows of processes or networks. A predictor takes what `schemas.py` let through, makes
one batch of it, and returns one answer per input, in order. Whatever else is in the batch must not
change an answer: padding is masked.
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import nn

from zoo_lessons.checkpoints import load_trained, trained_tokenizer
from zoo_lessons.datasets.shapes.drawing import pixel_values
from zoo_lessons.datasets.words import decode_batch
from zoo_lessons.deploy.serving.schemas import SHAPES_SIZE
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.models.blip import BlipForConditionalGeneration
from zoo_lessons.retrieval import sentence_embeddings
from zoo_lessons.weights import load_renamed, load_tokenizer, pretrained_folder

MAX_TOKENS = 128  # of a text; the rest is not read
DIGITS = "digits_vit"


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        output: JSON-able, for the user.
        features: the input as the model sees it, a vector for the drift detector; or None.
    """

    output: dict[str, Any]
    features: list[float] | None = None


class Predictor(Protocol):
    """What a replica holds."""

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Prediction]:
        """One prediction for each input, in order. All inputs make one batch."""


class Embedder:
    """MiniLM: {"text": ...} -> {"embedding": 384 numbers of length 1}."""

    def __init__(self, folder: str | None = None):
        source = "minilm" if folder is None else folder
        self.model, self.tokenizer = _bert(pretrained_folder(source)), load_tokenizer(source)

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Prediction]:
        texts = [one["text"] for one in inputs]
        vectors = sentence_embeddings(
            self.model, self.tokenizer, texts, max_length=MAX_TOKENS, batch_size=len(texts)
        )
        return [Prediction({"embedding": rounded(vector)}) for vector in vectors.tolist()]


class DigitReader:
    """The ViT of `experiments/digits_vit.py`: {"image": 8 × 8} -> {"digit", "probability"}."""

    def __init__(self, folder: str | None = None):
        self.model = load_trained(DIGITS) if folder is None else load_folder(folder)

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Prediction]:
        images = torch.tensor([one["image"] for one in inputs])[:, None]  # (batch, 1, 8, 8)
        output = self.model(2 * images - 1)
        probabilities = output.logits.softmax(dim=-1)
        best, digits = probabilities.max(dim=-1)
        vectors = output.last_hidden_state[:, 0]  # of the class token, (batch, d_model)
        return [
            Prediction({"digit": digit, "probability": round(share, 4)}, rounded(vector))
            for digit, share, vector in zip(
                digits.tolist(), best.tolist(), vectors.tolist(), strict=True
            )
        ]


class Captioner:
    """The BLIP of lesson 13: {"image": base64 of RGB bytes} -> {"caption"}."""

    def __init__(self, folder: str | None = None):
        if folder is not None:
            raise ValueError("the captioner serves the course's checkpoint only, got a folder")
        self.model = BlipForConditionalGeneration.from_pretraining(load_trained("blip_shapes"))
        self.tokenizer = trained_tokenizer("blip_shapes")

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Prediction]:
        bytes_ = [base64.b64decode(one["image"]) for one in inputs]
        pixels = np.frombuffer(b"".join(bytes_), dtype=np.uint8)
        images = pixels.reshape(-1, SHAPES_SIZE, SHAPES_SIZE, 3)
        ids = self.model.generate(pixel_values(images), max_new_tokens=24)
        return [Prediction({"caption": text}) for text in decode_batch(self.tokenizer, ids[:, 1:])]


PREDICTORS: dict[str, Callable[[str | None], Predictor]] = {
    "embed": Embedder,
    "digit": DigitReader,
    "caption": Captioner,
}


def load_predictor(model: str, folder: str | None = None) -> Predictor:
    """A predictor, with the course's weights or with those of another version.

    Args:
        model: one of `PREDICTORS`.
        folder: of another version, with `config.json` and `model.safetensors` as `save_version`
            writes them.

    Raises:
        ValueError: an unknown model.
        FileNotFoundError: the folder has no weights.
    """
    if model not in PREDICTORS:
        raise ValueError(f"model {model!r} must be one of {', '.join(PREDICTORS)}")
    return PREDICTORS[model](folder)


def save_version(model: nn.Module, folder: Path) -> None:
    """Write a model of `zoo_lessons.models` so that `load_folder` can build it again."""
    from dataclasses import asdict

    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "module": type(model).__module__,
        "model": type(model).__name__,
        "config_class": type(model.config).__name__,
        "config": asdict(model.config),
    }
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    safetensors.torch.save_model(model, str(folder / "model.safetensors"))


def load_folder(folder: str) -> nn.Module:
    """A model that `save_version` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: config.json names a class from elsewhere: it must not choose what is imported.
    """
    path = Path(folder)
    about = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if not about["module"].startswith("zoo_lessons.models."):
        raise ValueError(f"config.json names module {about['module']!r}, not one of our models")
    module = importlib.import_module(about["module"])
    config = getattr(module, about["config_class"])(**about["config"])
    model = getattr(module, about["model"])(config)
    safetensors.torch.load_model(model, str(path / "model.safetensors"), strict=True)
    return model.eval()


def rounded(vector: Sequence[float]) -> list[float]:
    """Six decimals: a float32 has no more that mean anything, and JSON gets half as long."""
    return [round(value, 6) for value in vector]


def _bert(folder: Path) -> BertModel:
    """`load_pretrained` without `transformers`, which costs each replica 100 MB and two seconds."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    about = SimpleNamespace(**{"num_labels": 2, **config})  # the library's default, not in files
    model = BertModel(BertConfig.from_hf(about))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    return load_renamed(model, weights).eval()
