"""How many bits does MiniLM need? Its weights, or its inputs, rounded in every way of lesson 19.

The task is lesson 08's: topics of passages, 32 tokens each, no module in two splits. A logistic
regression on the vectors of MiniLM in float32 is fitted on 64 training passages of each topic, its
C chosen by cross-validation, once for each of three draws. Then the *encoder* is quantized, and
nothing is fitted again. Figures for 240 test passages: "accuracy" is the share of right topics,
"agreement" the share of passages with the answer of the float32 encoder, both one figure for each
draw; "error" is the mean of 1 - cosine between the vectors of a passage before and after.

- "grid": the weights of all linear layers are rounded, or the inputs of all linear layers; with 2
  to 8 bits, one grid per tensor, per row (an output channel, or a token) or per group of 32 of its
  numbers, symmetric or not. The sums stay in float32. The tables of embeddings are left alone.
- "ways": the layers of `deploy.quantized_layers`, which store integers and, in the dynamic and the
  static ones, multiply integers; the tables of embeddings in int8. Static ranges come from 96
  training passages.
- "calibration": static layers again, with ranges from 1 to 96 training passages.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch import Tensor, nn

from zoo_lessons.datasets.topics import TOPICS, passages_by_topic
from zoo_lessons.deploy.quantize import CALIBRATIONS, GRANULARITIES, quantize_matrix
from zoo_lessons.deploy.quantized_layers import (
    calibrate,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    replace_linears,
    stored_bytes,
)
from zoo_lessons.models.bert import BertModel
from zoo_lessons.records import experiment
from zoo_lessons.retrieval import sentence_embeddings
from zoo_lessons.weights import load_pretrained, load_tokenizer

TOKENS = 32
PER_TOPIC, EVALUATED = 64, 40
SEEDS = range(3)
BITS = (8, 6, 5, 4, 3, 2)
GROUP = 32
CALIBRATED = (1, 6, 24, 96)  # passages


class Judge:
    """Classifiers fitted on the vectors of an encoder, and what they make of another's."""

    def __init__(self, model: BertModel, per_topic: int = PER_TOPIC, evaluated: int = EVALUATED):
        self.tokenizer = load_tokenizer("minilm")
        test = passages_by_topic("test", evaluated)
        self.texts = [passage.text for passage in test]
        self.labels = np.array([passage.label for passage in test])
        self.reference = self.vectors(model, self.texts)
        self.classifiers = []
        for seed in SEEDS:
            train = passages_by_topic("train", per_topic, seed=seed)
            vectors = self.vectors(model, [passage.text for passage in train])
            classifier = LogisticRegressionCV(
                Cs=[1, 10, 100, 1000],
                cv=4,
                max_iter=2000,
                l1_ratios=(0.0,),
                use_legacy_attributes=False,
                scoring="accuracy",
            )
            self.classifiers.append(classifier.fit(vectors, [p.label for p in train]))
        self.answers = [one.predict(self.reference) for one in self.classifiers]

    def vectors(self, model: nn.Module, texts: Sequence[str]) -> Tensor:
        return sentence_embeddings(model, self.tokenizer, texts, max_length=TOKENS, batch_size=64)

    def judge(self, model: nn.Module) -> dict[str, Any]:
        found = self.vectors(model, self.texts)
        answers = [one.predict(found) for one in self.classifiers]
        cosine = (found * self.reference).sum(dim=-1)  # both have length 1
        return {
            "accuracy": [round(float((one == self.labels).mean()), 4) for one in answers],
            "agreement": [
                round(float((one == other).mean()), 4)
                for one, other in zip(answers, self.answers, strict=True)
            ],
            "error": round(float(1 - cosine.mean()), 6),
        }


def rounded_weights(model: BertModel, round_matrix: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy whose linear layers have rounded weights, still in float."""

    def make(_: str, layer: nn.Linear) -> nn.Linear:
        layer.weight.data = round_matrix(layer.weight.data)
        return layer

    return replace_linears(model, make)


@contextmanager
def rounded_inputs(model: BertModel, round_matrix: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, each linear layer sees its input rounded."""

    def hook(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (x,) = inputs
        return round_matrix(x.reshape(-1, x.shape[-1])).view_as(x)

    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def grid(judge: Judge, model: BertModel, bits: Sequence[int] = BITS) -> list[dict[str, Any]]:
    """One row for each way to round the weights or the inputs."""
    rows = []
    for of, granularity, symmetric, number in product(
        ("weights", "inputs"), GRANULARITIES, (True, False), bits
    ):

        def round_matrix(x: Tensor) -> Tensor:
            stored = quantize_matrix(x, number, granularity, group_size=GROUP, symmetric=symmetric)  # noqa: B023
            return stored.dequantize()

        if of == "weights":
            result = judge.judge(rounded_weights(model, round_matrix))
        else:
            with rounded_inputs(model, round_matrix):
                result = judge.judge(model)
        setting = {"of": of, "granularity": granularity, "symmetric": symmetric, "bits": number}
        rows.append({**setting, **result})
    return rows


def calibration_batches(passages: int) -> list[dict[str, Tensor]]:
    """Training passages in random order, eight at a time, as the model takes them."""
    drawn = passages_by_topic("train", max(CALIBRATED) // len(TOPICS), seed=100)
    order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(0))
    texts = [drawn[i].text for i in order[:passages]]
    tokenizer = load_tokenizer("minilm")
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch(texts)
    return [
        {
            "input_ids": torch.tensor([one.ids for one in found[i : i + 8]]),
            "attention_mask": torch.tensor([one.attention_mask for one in found[i : i + 8]]),
        }
        for i in range(0, len(found), 8)
    ]


def ways(judge: Judge, model: BertModel) -> dict[str, dict[str, Any]]:
    """The layers of the library; name -> figures and bytes."""
    batches = calibration_batches(max(CALIBRATED))
    makers: dict[str, Callable[[], nn.Module]] = {
        "float32": lambda: model,
        "weight-only, 8 bits": lambda: quantize_weights(model, 8),
        "weight-only, 4 bits": lambda: quantize_weights(model, 4),
        "weight-only, 4 bits, groups of 32": lambda: quantize_weights(model, 4, "group"),
        "dynamic, per token": lambda: quantize_dynamic(model),
        "dynamic, per tensor": lambda: quantize_dynamic(model, per="tensor"),
        "dynamic, per tensor, outliers in float": lambda: quantize_dynamic(
            model, per="tensor", threshold=6.0
        ),
    }
    for method in CALIBRATIONS:
        makers[f"static, {method}"] = lambda method=method: quantize_static(
            model, calibrate(model, batches, method)
        )
    figures = {}
    for name, make in makers.items():
        made = make()
        figures[name] = {**judge.judge(made), "bytes": stored_bytes(made)}
    return figures


def calibration(judge: Judge, model: BertModel) -> dict[str, list[dict[str, Any]]]:
    """Method -> a row for each number of passages."""
    return {
        method: [
            {
                "passages": number,
                **judge.judge(
                    quantize_static(model, calibrate(model, calibration_batches(number), method))
                ),
            }
            for number in CALIBRATED
        ]
        for method in CALIBRATIONS
    }


@experiment(
    "quantization_quality",
    lesson="19",
    uses=[
        "zoo_lessons.datasets.topics",
        "zoo_lessons.deploy.quantize",
        "zoo_lessons.deploy.quantized_layers",
        "zoo_lessons.models.bert",
        "zoo_lessons.retrieval",
    ],
)
def quantization_quality() -> dict[str, Any]:
    model = load_pretrained("minilm").eval()
    judge = Judge(model)
    return {
        "figures": {
            "topics": list(TOPICS),
            "test_passages": len(judge.labels),
            "seeds": len(SEEDS),
            "group_size": GROUP,
            "bits": list(BITS),
            "ways": ways(judge, model),
            "calibration": calibration(judge, model),
            "grid": grid(judge, model),
        }
    }
