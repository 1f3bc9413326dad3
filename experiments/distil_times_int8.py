"""Distilled or not, INT8 or not: accuracy and size of the four models.

The teacher and the student of `c08_distillation` (six topics, passages of 24 tokens; the student
has three of MiniLM's six layers and learns from the teacher's logits and hidden states alone, which
did best there), trained in the same way at the rates that were chosen there. Of the teacher's
classifiers the last one is kept.

Each of the two is exported to ONNX and quantized (`deploy.export.quantize_dynamic_int8`, embeddings
too): int8 weights, inputs quantized at each call. Accuracy is that of the ONNX files themselves, on
360 test passages; sizes are those of the files. Nothing here is timed; `c31_distil_int8` is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.c08_distillation import (
    TESTED,
    Passages,
    encode,
    new_student,
    share,
    student_loss,
    teach,
    train,
    train_teacher,
    training_passages,
)
from experiments.intervals import mean_interval
from zoo_lessons.datasets.topics import passages_by_topic
from zoo_lessons.deploy.export import OnnxModel, export_onnx, quantize_dynamic_int8
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.models.bert import BertLogits
from zoo_lessons.records import experiment, load_record

WAY = "no labels"  # the teacher's logits and features, on labelled and unlabelled passages alike
SEEDS = range(3)
TEACHER, STUDENT = "teacher", "student"
MODELS, PRECISIONS = (TEACHER, STUDENT), ("fp32", "INT8")


class LastClassifier(nn.Module):
    """An early-exit model without its early exits."""

    def __init__(self, model: EarlyExit):
        super().__init__()
        self.encoder, self.classifier = model.encoder, model.classifiers[-1]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BertLogits:
        """Two tensors (batch, length) -> logits (batch, classes)."""
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        return BertLogits(self.classifier(hidden[:, 0]))


def trained(seed: int) -> dict[str, nn.Module]:
    """A teacher and its student."""
    rates = load_record("c08_distillation")["figures"]["rates"]
    labelled, every = training_passages(seed)
    teacher = train_teacher(labelled, seed, rate=rates["teacher"])
    student = new_student(seed)
    lesson = teach(teacher, every)
    train(student, every, student_loss(WAY, every, lesson), rate=rates["student"])
    return {TEACHER: LastClassifier(teacher).eval(), STUDENT: student.eval()}


@contextmanager
def four_files(models: dict[str, nn.Module], example: Passages) -> Iterator[dict[str, Path]]:
    """Both models as ONNX files, in both precisions, by "teacher, INT8"."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, model in models.items():
            plain = Path(folder) / f"{name}.onnx"
            inputs = {"input_ids": example.ids, "attention_mask": example.mask}
            files[f"{name}, fp32"] = export_onnx(model, inputs, plain)
            small = plain.with_suffix(".int8.onnx")
            files[f"{name}, INT8"] = quantize_dynamic_int8(plain, small, embeddings=True)
        yield files


def right_answers(model: OnnxModel, passages: Passages) -> Tensor:
    """Which passages are classified rightly, Boolean (passages)."""
    found = [
        model(input_ids=part.ids, attention_mask=part.mask)["logits"].argmax(-1)
        for part in passages.parts()
    ]
    return torch.cat(found) == passages.labels


@experiment(
    "distil_times_int8",
    lesson="19",
    uses=[
        "experiments.c08_distillation",
        "experiments.intervals",
        "zoo_lessons.datasets.topics",
        "zoo_lessons.deploy.export",
        "zoo_lessons.early_exit",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.distilbert",
        "zoo_lessons.training.distill",
        "zoo_lessons.training.fit",
    ],
)
def distil_times_int8() -> dict[str, Any]:
    test = encode(passages_by_topic("test", TESTED))
    right: dict[str, list[Tensor]] = {}
    sizes: dict[str, int] = {}
    for seed in SEEDS:
        with four_files(trained(seed), test[:4]) as files:
            for name, path in files.items():
                right.setdefault(name, []).append(right_answers(OnnxModel(path), test))
                sizes[name] = path.stat().st_size
    best = torch.stack(right[f"{TEACHER}, fp32"]).double().mean(0)
    variants = {}
    for name, rows in right.items():
        lost = (best - torch.stack(rows).double().mean(0)).tolist()  # for each passage
        variants[name] = {
            "accuracy": [share(row) for row in rows],
            "mean": round(torch.stack(rows).double().mean().item(), 4),
            "lost": [round(x, 4) for x in mean_interval(lost)],
            "bytes": sizes[name],
        }
    return {"figures": {"seeds": len(SEEDS), "tested": len(test), "variants": variants}}
