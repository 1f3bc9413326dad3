"""Claim C08: a small student learns from a large teacher's logits and features.

The teacher is MiniLM with a classifier on [CLS] after each of its six layers, fine-tuned as a whole
on 64 labelled passages of each of six topics (`datasets.topics`, cut to 24 tokens). The
classifiers' losses are weighted as in PABEE, and the last classifier is what students learn from:
one teacher serves distillation and early exit. The classifiers are fitted to the frozen MiniLM
first: at the rate that suits a pretrained encoder, fresh ones would stay at chance below the top.

A student has three layers, copies of every second layer of MiniLM as it was *before* fine-tuning,
and a fresh head. Ways to train it differ in the loss alone; data, order, steps and rate are equal:

- "alone": cross-entropy with the labels;
- "logits": that, and `soft_target_loss` with the teacher at temperature 2;
- "features": that of "alone", and `feature_loss`: the cosine between the student's hidden states
  and the teacher's after layers 2, 4 and 6;
- "both": all three, added;
- "no labels": logits and features only, on two and a half times as many passages. The student sees
  no label of any of them: a teacher can be asked about any text.

Two other starts, trained alone, as controls: the first three layers of MiniLM, and random layers.

The word embeddings stay as they are in all models, to save time. Learning rates are the best of two
on validation passages, with seed 0: the teacher's own, and for all students that of "alone", which
gives the baseline the choice. Judged on 360 test passages; no module is in two splits. A seed draws
other training passages and another start of the heads.

Also measured with the teachers: where examples leave (patience, confidence), how sure each layer is
against how often it is right, and what is left when 3, 6 or 9 of the 12 heads of each layer are
pruned, without further training.

Verdict: a way transfers knowledge if its gain over "alone", averaged over seeds for each test
passage, has a 95 % interval above 0. "reproduced" if "logits" and "features" both do; "partly" if
any of the four ways does; otherwise "not measurable here". Nothing here is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.datasets.topics import TOPICS, TopicPassage, passages_by_topic
from zoo_lessons.early_exit import EarlyExit, early_exit_loss, exits
from zoo_lessons.models.distilbert import DistilBertForSequenceClassification, distil_from
from zoo_lessons.pruning import head_importance, prune_heads
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.distill import feature_loss, record_layers, soft_target_loss
from zoo_lessons.weights import load_pretrained, load_tokenizer

TOKENS = 24
LABELLED, DRAWN, VALIDATED, TESTED = 64, 160, 30, 60  # passages of each topic
STEPS, BATCH = 160, 16
TEACHER_RATES, STUDENT_RATES = (1e-4, 3e-4), (3e-4, 1e-3)
EVERY_SECOND = (0, 2, 4)
WAYS = ("alone", "logits", "features", "both", "no labels")
STARTS: dict[str, tuple[int, ...] | None] = {"first three": (0, 1, 2), "random": None}
TEMPERATURE = 2.0
PATIENCES, CONFIDENCES = range(1, 6), (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
PRUNED = (3, 6, 9)  # of the 12 heads of each layer
SEEDS = range(3)


@dataclass
class Passages:
    """Passages as tensors; labels may be there and not be used."""

    ids: Tensor  # (passages, tokens)
    mask: Tensor  # (passages, tokens), 0/1
    labels: Tensor  # (passages)

    def __getitem__(self, rows: Any) -> Passages:
        return Passages(self.ids[rows], self.mask[rows], self.labels[rows])

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self, size: int = 60) -> list[Passages]:
        return [self[start : start + size] for start in range(0, len(self), size)]


@dataclass
class Lesson:
    """What the teacher says about passages."""

    logits: Tensor  # (passages, topics)
    states: list[Tensor]  # after layers 2, 4, 6: (passages, tokens, d_model)


def encode(passages: list[TopicPassage]) -> Passages:
    tokenizer = load_tokenizer("minilm")
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch([passage.text for passage in passages])
    return Passages(
        torch.tensor([one.ids for one in found]),
        torch.tensor([one.attention_mask for one in found]),
        torch.tensor([passage.label for passage in passages]),
    )


def training_passages(
    seed: int, labelled: int = LABELLED, drawn: int = DRAWN
) -> tuple[Passages, Passages]:
    """Labelled passages, and more of them for the student that gets no labels."""
    found = passages_by_topic("train", drawn, seed=seed)
    every = encode(found)
    taken = [0] * len(TOPICS)
    first = []
    for row, passage in enumerate(found):
        if taken[passage.label] < labelled:
            first.append(row)
        taken[passage.label] += 1
    return every[torch.tensor(first)], every


def train(
    model: nn.Module,
    passages: Passages,
    loss: Callable[[nn.Module, Tensor], Tensor],
    *,
    rate: float,
    steps: int = STEPS,
) -> None:
    """Train all but the word embeddings; `loss(model, rows)` gets the rows of a batch."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("embeddings.word" not in name)
    order = torch.Generator().manual_seed(0)
    fit(
        model,
        lambda step: torch.randint(len(passages), (BATCH,), generator=order),
        loss,
        steps=steps,
        lr=rate,
        schedule="warmup_linear",
        device="cpu",
        progress=False,
    )
    model.eval()


def train_teacher(labelled: Passages, seed: int, *, rate: float) -> EarlyExit:
    """MiniLM with a classifier on each layer, fine-tuned."""
    seed_everything(seed)
    model = EarlyExit(load_pretrained("minilm"), len(TOPICS))
    fit_classifiers(model, labelled)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        batch = labelled[rows]
        return early_exit_loss(model(batch.ids, batch.mask).layer_logits, batch.labels)

    train(model, labelled, loss, rate=rate)
    return model


def fit_classifiers(model: EarlyExit, labelled: Passages) -> None:
    """Fit the classifiers to what the encoder says now; the encoder stays as it is."""
    model.eval()
    with torch.no_grad(), record_layers(model.encoder) as states:
        model.encoder(labelled.ids, labelled.mask)
    vectors = [state[:, 0] for state in states]  # [CLS] after each layer, (passages, d_model)

    def loss(classifiers: nn.Module, labels: Tensor) -> Tensor:
        found = [classify(x) for classify, x in zip(classifiers, vectors, strict=True)]
        return early_exit_loss(torch.stack(found), labels)

    fit(
        model.classifiers,
        lambda step: labelled.labels,
        loss,
        steps=150,
        lr=1e-2,
        weight_decay=0.1,
        device="cpu",
        progress=False,
    )


@torch.no_grad()
def teach(teacher: EarlyExit, passages: Passages) -> Lesson:
    """The teacher's logits and hidden states, computed once for all students."""
    logits, states = [], []
    for part in passages.parts():
        with record_layers(teacher.encoder) as every:
            logits.append(teacher(part.ids, part.mask).logits)
        states.append(every[1::2])
    return Lesson(torch.cat(logits), [torch.cat(layer) for layer in zip(*states, strict=True)])


def new_student(
    seed: int, layers: tuple[int, ...] | None = EVERY_SECOND
) -> DistilBertForSequenceClassification:
    """Three layers copied from MiniLM, or random ones, and a fresh head."""
    seed_everything(seed)
    encoder = distil_from(load_pretrained("minilm"), layers or EVERY_SECOND)
    if layers is None:
        encoder.layers.load_state_dict(type(encoder)(encoder.config).layers.state_dict())
    return DistilBertForSequenceClassification.from_encoder(encoder, num_labels=len(TOPICS))


def student_loss(
    way: str, passages: Passages, lesson: Lesson | None
) -> Callable[[nn.Module, Tensor], Tensor]:
    """The loss of one of `WAYS`; "alone" needs no lesson."""

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        batch = passages[rows]
        with record_layers(model.distilbert) as states:
            logits = model(batch.ids, batch.mask).logits
        total = logits.new_zeros(())
        if way != "no labels":
            total = total + F.cross_entropy(logits, batch.labels)
        if way in ("logits", "both", "no labels"):
            total = total + soft_target_loss(logits, lesson.logits[rows], TEMPERATURE)
        if way in ("features", "both", "no labels"):
            for own, taught in zip(states, lesson.states, strict=True):
                total = total + feature_loss(own, taught[rows], batch.mask.bool()) / len(states)
        return total

    return loss


@torch.no_grad()
def predict(model: nn.Module, passages: Passages) -> Tensor:
    """Predicted topics (passages)."""
    model.eval()
    return torch.cat([model(p.ids, p.mask).logits.argmax(-1) for p in passages.parts()])


@torch.no_grad()
def layer_logits(teacher: EarlyExit, passages: Passages) -> Tensor:
    """(layers, passages, topics)."""
    teacher.eval()
    return torch.cat([teacher(p.ids, p.mask).layer_logits for p in passages.parts()], dim=1)


def share(right: Tensor) -> float:
    return round(right.double().mean().item(), 4)


# --- early exit and heads ------------------------------------------------------------------------


def early_figures(found: Tensor, labels: Tensor) -> dict[str, Any]:
    """Accuracy and layers used under both rules, and each layer's accuracy and confidence."""

    def row(**rule: Any) -> dict[str, Any]:
        left = exits(found, **rule)
        counts = torch.bincount(left.layers, minlength=len(found) + 1)[1:].tolist()
        right = left.logits.argmax(-1) == labels
        layers = round(left.layers.double().mean().item(), 3)
        return {**rule, "accuracy": share(right), "layers": layers, "left_after": counts}

    sure, guess = found.softmax(dim=-1).max(dim=-1)  # (layers, passages)
    return {
        "patience": [row(patience=p) for p in PATIENCES],
        "confidence": [row(confidence=c) for c in CONFIDENCES],
        "layer_accuracy": [share(g == labels) for g in guess],
        "layer_confidence": [round(s.double().mean().item(), 4) for s in sure],
        # of the passages that a layer is at least 90 % sure of: how many, and how many are right
        "sure": [int((s >= 0.9).sum()) for s in sure],
        "sure_and_right": [
            int(((s >= 0.9) & (g == labels)).sum()) for s, g in zip(sure, guess, strict=True)
        ],
    }


def importance_of_heads(teacher: EarlyExit, labelled: Passages) -> dict[str, Tensor]:
    """`head_importance` for the last classifier, on half of the labelled passages."""

    def loss(part: Passages) -> Callable[[], Tensor]:
        return lambda: F.cross_entropy(
            teacher(part.ids, part.mask).logits, part.labels, reduction="none"
        )

    return head_importance(teacher, [loss(part) for part in labelled[:192].parts(48)])


def pruning_figures(
    teacher: EarlyExit, labelled: Passages, test: Passages, counts: tuple[int, ...] = PRUNED
) -> dict[str, Any]:
    """Accuracy of the last classifier when so many heads of each layer are gone."""
    importance = importance_of_heads(teacher, labelled)
    chance = torch.Generator().manual_seed(0)
    orders = {
        "least important": {name: row.argsort().tolist() for name, row in importance.items()},
        "random": {
            name: torch.randperm(len(row), generator=chance).tolist()
            for name, row in importance.items()
        },
        "most important": {name: (-row).argsort().tolist() for name, row in importance.items()},
    }
    accuracy = {
        which: [
            share(predict(without(teacher, order, count), test) == test.labels) for count in counts
        ]
        for which, order in orders.items()
    }
    rows = [[round(value, 4) for value in row.tolist()] for row in importance.values()]
    return {"importance": rows, "accuracy": accuracy}


def without(teacher: EarlyExit, order: dict[str, list[int]], count: int) -> EarlyExit:
    """The teacher without the first `count` heads of each layer in this order."""
    return prune_heads(teacher, {name: heads[:count] for name, heads in order.items()})


# --- all of it -----------------------------------------------------------------------------------


def choose_rates() -> dict[str, dict[str, float]]:
    """Accuracy on validation passages at each rate, with seed 0: for the teacher, and "alone"."""
    labelled, _ = training_passages(0)
    validation = encode(passages_by_topic("validation", VALIDATED))
    tried: dict[str, dict[str, float]] = {"teacher": {}, "student": {}}
    for rate in TEACHER_RATES:
        teacher = train_teacher(labelled, 0, rate=rate)
        right = predict(teacher, validation) == validation.labels
        tried["teacher"][f"{rate:g}"] = share(right)
    for rate in STUDENT_RATES:
        student = new_student(0)
        train(student, labelled, student_loss("alone", labelled, None), rate=rate)
        right = predict(student, validation) == validation.labels
        tried["student"][f"{rate:g}"] = share(right)
    return tried


def best(tried: dict[str, float]) -> float:
    """The rate with the highest accuracy."""
    return float(max(tried, key=lambda rate: tried[rate]))


def measure(seeds: range = SEEDS) -> dict[str, Any]:
    tried = choose_rates()
    rates = {name: best(accuracy) for name, accuracy in tried.items()}
    test = encode(passages_by_topic("test", TESTED))
    right: dict[str, list[Tensor]] = {}  # way -> seed -> (passages)
    agrees: dict[str, list[float]] = {}  # with the teacher
    early, pruning = [], []
    for seed in seeds:
        labelled, every = training_passages(seed)
        teacher = train_teacher(labelled, seed, rate=rates["teacher"])
        found = layer_logits(teacher, test)
        taught_test = found[-1].argmax(-1)
        right.setdefault("teacher", []).append(taught_test == test.labels)
        early.append(early_figures(found, test.labels))
        pruning.append(pruning_figures(teacher, labelled, test))
        lesson, more = teach(teacher, labelled), teach(teacher, every)

        runs = {way: (way, EVERY_SECOND) for way in WAYS}
        runs |= {f"start: {name}": ("alone", layers) for name, layers in STARTS.items()}
        for name, (way, layers) in runs.items():
            student = new_student(seed, layers)
            passages, says = (every, more) if way == "no labels" else (labelled, lesson)
            train(student, passages, student_loss(way, passages, says), rate=rates["student"])
            guess = predict(student, test)
            right.setdefault(name, []).append(guess == test.labels)
            agrees.setdefault(name, []).append(share(guess == taught_test))
    return {
        "topics": list(TOPICS),
        "seeds": len(seeds),
        "labelled": LABELLED * len(TOPICS),
        "unlabelled": DRAWN * len(TOPICS),
        "tested": len(test),
        "steps": STEPS,
        "batch": BATCH,
        "rates": rates,
        "rates_on_validation": tried,
        "temperature": TEMPERATURE,
        "accuracy": {name: [share(row) for row in rows] for name, rows in right.items()},
        "agreement": agrees,
        "gain": {
            name: gain(rows, right["alone"])
            for name, rows in right.items()
            if name not in ("teacher", "alone")
        },
        "parameters": parameters(),
        "early_exit": early,
        "pruning": {"counts": list(PRUNED), "seeds": pruning},
    }


def gain(right: list[Tensor], alone: list[Tensor]) -> dict[str, float]:
    """Points of accuracy over "alone", with a 95 % interval over the test passages."""
    difference = torch.stack(right).double().mean(0) - torch.stack(alone).double().mean(0)
    mean, low, high = mean_interval(difference.tolist())
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def parameters() -> dict[str, int]:
    """Counted, with the classifiers: `layers` without the embeddings."""
    teacher = EarlyExit(load_pretrained("minilm"), len(TOPICS))
    student = new_student(0)
    return {
        "teacher": sum(p.numel() for p in teacher.parameters()),
        "student": sum(p.numel() for p in student.parameters()),
        "teacher_layers": sum(p.numel() for p in teacher.encoder.layers.parameters()),
        "student_layers": sum(p.numel() for p in student.distilbert.layers.parameters()),
    }


def verdict(figures: dict[str, Any]) -> Verdict:
    gains = {way: figures["gain"][way] for way in WAYS[1:]}
    helps = [way for way, each in gains.items() if each["low"] > 0]
    if {"logits", "features"} <= set(helps):
        said = "reproduced"
    else:
        said = "partly" if helps else "not measurable here"
    alone = figures["accuracy"]["alone"]
    teacher = figures["accuracy"]["teacher"]
    ours = (
        f"teacher {sum(teacher) / len(teacher):.3f}, student alone {sum(alone) / len(alone):.3f}; "
        + ", ".join(
            f"{way} {100 * each['mean']:+.1f} points ({100 * each['low']:+.1f} to "
            f"{100 * each['high']:+.1f})"
            for way, each in gains.items()
        )
    )
    explanation = (
        f"The interval is above zero for: {', '.join(helps) or 'none'}. Three layers of MiniLM, "
        f"{figures['labelled']} labelled passages, {figures['seeds']} seeds."
    )
    return Verdict(said, ours, explanation, "17#5-·-Claim-C08:-does-it-transfer?")


@experiment(
    "c08_distillation",
    claims=["C08"],
    lesson="17",
    uses=[
        "experiments.intervals",
        "zoo_lessons.datasets.topics",
        "zoo_lessons.early_exit",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.distilbert",
        "zoo_lessons.pruning",
        "zoo_lessons.training.distill",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def c08_distillation() -> dict[str, Any]:
    figures = measure()
    return {"figures": figures, "verdicts": {"C08": verdict(figures)}}
