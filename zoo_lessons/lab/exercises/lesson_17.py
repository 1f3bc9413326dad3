"""Exercises of lesson 17: distillation's losses and layers, early exit, and shared attention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.training import distill

# --- soft targets --------------------------------------------------------------------------------


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    return distill.soft_target_loss(student_logits, teacher_logits, temperature)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of softened logits, the mean over the batch."""
    student, teacher = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    return (teacher.exp() * (teacher - student)).sum(dim=-1).mean()


def _soft_reversed(student_logits, teacher_logits, temperature):
    return soft_target_loss(teacher_logits, student_logits, temperature)


def _soft_no_square(student_logits, teacher_logits, temperature):
    return soft_target_loss(student_logits, teacher_logits, temperature) / temperature**2


def _soft_times_t(student_logits, teacher_logits, temperature):
    return soft_target_loss(student_logits, teacher_logits, temperature) / temperature


def _soft_teacher_only(student_logits, teacher_logits, temperature):
    return temperature**2 * _divergence(student_logits, teacher_logits / temperature)


def _soft_student_only(student_logits, teacher_logits, temperature):
    return temperature**2 * _divergence(student_logits / temperature, teacher_logits)


def _soft_multiplies(student_logits, teacher_logits, temperature):
    return temperature**2 * _divergence(student_logits * temperature, teacher_logits * temperature)


def _soft_without_logarithm(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).softmax(dim=-1)
    teacher = (teacher_logits / temperature).softmax(dim=-1)
    return temperature**2 * (teacher * (teacher - student)).sum(dim=-1).mean()


def _soft_kl_div_of_probabilities(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).softmax(dim=-1)
    teacher = (teacher_logits / temperature).softmax(dim=-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")


def _soft_kl_div_of_logarithms(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits / temperature).log_softmax(dim=-1)
    return temperature**2 * (teacher * (-student)).sum(dim=-1).mean()


def _soft_cross_entropy(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits / temperature).softmax(dim=-1)
    return -(temperature**2) * (teacher * student).sum(dim=-1).mean()


def _soft_mean_over_classes(student_logits, teacher_logits, temperature):
    return soft_target_loss(student_logits, teacher_logits, temperature) / student_logits.shape[-1]


def _soft_sum_over_batch(student_logits, teacher_logits, temperature):
    return soft_target_loss(student_logits, teacher_logits, temperature) * len(student_logits)


def _soft_over_the_batch(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).log_softmax(dim=0)
    teacher = (teacher_logits / temperature).log_softmax(dim=0)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=-1).mean()


def _soft_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, batch: int, classes: int, temperature: float, scale: float) -> Case:
        student, teacher = (
            scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
            for _ in range(2)
        )
        return Case((student, teacher, temperature), label=label)

    return (
        case("5 examples, 3 classes, T = 2", 5, 3, 2.0, 1.5),
        case("2 examples, 7 classes, T = 4", 2, 7, 4.0, 2.0),
        case("confident logits, T = 0.5", 3, 4, 0.5, 3.0),
        case("T = 1", 4, 6, 1.0, 1.0),
    )


# --- which layers to compare ---------------------------------------------------------------------


def matching_layers(teacher_layers: int, student_layers: int) -> list[int]:
    step = teacher_layers // student_layers
    return [step * (i + 1) - 1 for i in range(student_layers)]


def _layers_first_of_group(teacher_layers, student_layers):
    step = teacher_layers // student_layers
    return [step * i for i in range(student_layers)]


def _layers_from_the_top(teacher_layers, student_layers):
    return list(range(teacher_layers - student_layers, teacher_layers))


def _layers_from_the_bottom(teacher_layers, student_layers):
    return list(range(student_layers))


def _layers_backwards(teacher_layers, student_layers):
    return matching_layers(teacher_layers, student_layers)[::-1]


def _layers_from_one(teacher_layers, student_layers):
    return [i + 1 for i in matching_layers(teacher_layers, student_layers)]


def _layers_always_two(teacher_layers, student_layers):
    return list(range(1, teacher_layers, 2))


def _layers_step_of_students(teacher_layers, student_layers):
    return list(range(student_layers - 1, teacher_layers, student_layers))


_LAYERS = (
    Case((6, 3), label="a teacher of 6 layers, a student of 3"),
    Case((12, 4), label="12 layers and 4"),
    Case((12, 6), label="12 layers and 6"),
    Case((5, 5), label="5 layers and 5"),
    Case((8, 1), label="8 layers and 1"),
)

# --- features ------------------------------------------------------------------------------------


def feature_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    distance = 1 - F.cosine_similarity(student, teacher, dim=-1)  # (batch, length)
    real = attention_mask.bool()
    return distance[real].mean()


def _feature_padding_counts(student, teacher, attention_mask):
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def _feature_padding_as_zero(student, teacher, attention_mask):
    return ((1 - F.cosine_similarity(student, teacher, dim=-1)) * attention_mask).mean()


def _feature_states_masked(student, teacher, attention_mask):
    mask = attention_mask[..., None].to(student.dtype)
    return (1 - F.cosine_similarity(student * mask, teacher * mask, dim=-1)).mean()


def _feature_similarity(student, teacher, attention_mask):
    return F.cosine_similarity(student, teacher, dim=-1)[attention_mask.bool()].mean()


def _feature_negative_similarity(student, teacher, attention_mask):
    return -F.cosine_similarity(student, teacher, dim=-1)[attention_mask.bool()].mean()


def _feature_product(student, teacher, attention_mask):
    return (1 - (student * teacher).sum(dim=-1))[attention_mask.bool()].mean()


def _feature_over_tokens(student, teacher, attention_mask):
    mask = attention_mask[..., None].to(student.dtype)
    return (1 - F.cosine_similarity(student * mask, teacher * mask, dim=1)).mean()


def _feature_mean_of_texts(student, teacher, attention_mask):
    distance = (1 - F.cosine_similarity(student, teacher, dim=-1)) * attention_mask
    return (distance.sum(dim=1) / attention_mask.sum(dim=1)).mean()


def _feature_squared(student, teacher, attention_mask):
    return (student - teacher).square().mean(dim=-1)[attention_mask.bool()].mean()


def _feature_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, lengths: list[int], width: int) -> Case:
        shape = len(lengths), max(lengths), width
        student, teacher = (
            torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2)
        )
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
        return Case((student, 2 * teacher + student, mask), label=label)

    return (
        case("texts of 6, 2 and 1 tokens", [6, 2, 1], 5),
        case("no padding", [4, 4], 7),
        case("one text", [3], 2),
        case("texts of 1 and 9 tokens", [1, 9], 3),
    )


# --- early exit ----------------------------------------------------------------------------------


def exit_layers(predictions: Tensor, patience: int) -> Tensor:
    layers, batch = predictions.shape
    left = torch.full((batch,), layers)
    for i in range(batch):
        confirmed = 0
        for layer in range(1, layers):
            same = predictions[layer, i] == predictions[layer - 1, i]
            confirmed = confirmed + 1 if same else 0
            if confirmed >= patience:
                left[i] = layer + 1
                break
    return left


def _walk(predictions: Tensor, leave) -> Tensor:
    """The first layer, from 1, at which `leave(what was predicted so far)` says so, for each."""
    layers, batch = predictions.shape
    left = torch.full((batch,), layers)
    for i in range(batch):
        column = predictions[:, i].tolist()
        for layer in range(1, layers + 1):
            if leave(column[:layer]):
                left[i] = layer
                break
    return left


def _run(seen: list[int]) -> int:
    """How many layers in a row, up to now, confirmed the one before."""
    count = 0
    for before, now in zip(seen[-2::-1], seen[:0:-1], strict=True):
        if before != now:
            break
        count += 1
    return count


def _exit_not_reset(predictions, patience):
    def leave(seen):
        return sum(a == b for a, b in zip(seen, seen[1:], strict=False)) >= patience

    return _walk(predictions, leave)


def _exit_one_early(predictions, patience):
    return _walk(predictions, lambda seen: _run(seen) + 1 >= patience)


def _exit_one_late(predictions, patience):
    return _walk(predictions, lambda seen: _run(seen) > patience)


def _exit_counts_from_zero(predictions, patience):
    return exit_layers(predictions, patience) - 1


def _exit_by_the_first(predictions, patience):
    return _walk(predictions, lambda seen: seen[1:].count(seen[0]) >= patience)


def _exit_all_together(predictions, patience):
    return exit_layers(predictions, patience).max().expand(predictions.shape[1]).clone()


def _exit_first_of_batch(predictions, patience):
    return exit_layers(predictions, patience).min().expand(predictions.shape[1]).clone()


def _exit_majority(predictions, patience):
    layers, batch = predictions.shape
    confirmed = 0
    for layer in range(1, layers):
        same = (predictions[layer] == predictions[layer - 1]).double().mean() >= 0.5
        confirmed = confirmed + 1 if same else 0
        if confirmed >= patience:
            return torch.full((batch,), layer + 1)
    return torch.full((batch,), layers)


def _exit_never_sure(predictions, patience):
    layers, batch = predictions.shape
    left = torch.zeros(batch, dtype=torch.long)
    for i in range(batch):
        for layer in range(1, layers + 1):
            if _run(predictions[:layer, i].tolist()) >= patience:
                left[i] = layer
                break
    return left


def _exit_cases() -> tuple[Case, ...]:
    # One column an example, one row a layer.
    columns = torch.tensor(
        [
            [0, 0, 1, 1, 1, 1],
            [2, 2, 2, 2, 2, 2],
            [0, 1, 0, 1, 2, 0],
            [1, 1, 0, 1, 1, 1],
            [0, 1, 1, 2, 2, 2],
        ]
    )
    generator = torch.Generator().manual_seed(3)
    return (
        Case((columns.T, 2), label="5 examples, 6 layers, patience 2"),
        Case((columns.T, 1), label="the same, patience 1"),
        Case((columns[[2, 0]].T, 3), label="2 examples, patience 3"),
        Case(
            (torch.randint(2, (12, 9), generator=generator), 2),
            label="9 examples, 12 layers, patience 2",
        ),
    )


# --- sharing -------------------------------------------------------------------------------------


def share_attention(make_layer: Callable[[], nn.Module], count: int) -> int:
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.attention = layers[0].attention
    return _count(layers)


def _build(make_layer: Callable[[], nn.Module], count: int) -> nn.ModuleList:
    return nn.ModuleList(make_layer() for _ in range(count))


def _count(layers: nn.ModuleList) -> int:
    return sum(p.numel() for p in layers.parameters())


def _share_copies(make_layer, count):
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.attention = copy.deepcopy(layers[0].attention)
    return _count(layers)


def _share_whole_layers(make_layer, count):
    layers = _build(make_layer, count)
    for i in range(1, len(layers)):
        layers[i] = layers[0]
    return _count(layers)


def _share_feed_forward(make_layer, count):
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.feed_forward = layers[0].feed_forward
    return _count(layers)


def _share_qkv_only(make_layer, count):
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.attention.qkv = layers[0].attention.qkv
    return _count(layers)


def _share_weights_only(make_layer, count):
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.attention.qkv.weight = layers[0].attention.qkv.weight
        layer.attention.out.weight = layers[0].attention.out.weight
    return _count(layers)


def _share_neighbour_only(make_layer, count):
    layers = _build(make_layer, count)
    layers[1].attention = layers[0].attention
    return _count(layers)


def _share_pairs(make_layer, count):
    layers = _build(make_layer, count)
    for i in range(1, len(layers), 2):
        layers[i].attention = layers[i - 1].attention
    return _count(layers)


def _share_counts_tensors(make_layer, count):
    layers = _build(make_layer, count)
    for layer in layers[1:]:
        layer.attention = layers[0].attention
    return len(list(layers.parameters()))


def _share_cases() -> tuple[Case, ...]:
    def case(label: str, count: int, d_model: int, num_heads: int, d_ff: int) -> Case:
        return Case((partial(EncoderBlock, d_model, num_heads, d_ff), count), label=label)

    return (
        case("4 layers of width 12", 4, 12, 3, 20),
        case("3 layers of width 8", 3, 8, 2, 40),
        case("5 layers of width 6", 5, 6, 1, 10),
    )


# --- find the bug --------------------------------------------------------------------------------


def confident_exits(layer_logits: Tensor, confidence: float) -> Tensor:
    sure = layer_logits.softmax(dim=-1).amax(dim=-1) >= confidence  # (layers, batch)
    sure[-1] = True
    return sure.int().argmax(dim=0) + 1


def batch_exits(layer_logits: Tensor, confidence: float) -> Tensor:
    layers, batch, _ = layer_logits.shape
    for layer in range(layers):
        sure = layer_logits[layer].softmax(dim=-1).amax(dim=-1).mean()
        if sure >= confidence:
            return torch.full((batch,), layer + 1)
    return torch.full((batch,), layers)


def _confident_all_sure(layer_logits, confidence):
    found = confident_exits(layer_logits, confidence)
    return found.max().expand(len(found)).clone()


def _confident_any_sure(layer_logits, confidence):
    found = confident_exits(layer_logits, confidence)
    return found.min().expand(len(found)).clone()


def _confident_last_sure(layer_logits, confidence):
    sure = layer_logits.softmax(dim=-1).amax(dim=-1) >= confidence
    layers = torch.arange(1, len(sure) + 1)[:, None] * sure
    found = layers.amax(dim=0)
    return torch.where(found == 0, len(sure), found)


def _confident_without_last(layer_logits, confidence):
    sure = layer_logits.softmax(dim=-1).amax(dim=-1) >= confidence
    return sure.int().argmax(dim=0) + 1


def _confident_logits(layer_logits, confidence):
    sure = layer_logits.amax(dim=-1) >= confidence
    sure[-1] = True
    return sure.int().argmax(dim=0) + 1


def _confident_over_batch(layer_logits, confidence):
    sure = layer_logits.softmax(dim=1).amax(dim=-1) >= confidence
    sure[-1] = True
    return sure.int().argmax(dim=0) + 1


def _confident_counts_from_zero(layer_logits, confidence):
    return confident_exits(layer_logits, confidence) - 1


def _confident_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(5)

    def logits(layers: int, batch: int, classes: int) -> Tensor:
        growing = torch.linspace(0.5, 3.0, layers, dtype=torch.float64)[:, None, None]
        return growing * torch.randn(
            layers, batch, classes, generator=generator, dtype=torch.float64
        )

    return (
        Case((logits(6, 7, 3), 0.8), label="7 examples, 6 layers, 3 classes"),
        Case((logits(4, 5, 5), 0.6), label="5 examples, 4 layers, 5 classes"),
        Case((logits(12, 6, 2), 0.97), label="6 examples, 12 layers: most are never sure"),
        Case((logits(5, 1, 4), 0.7), label="a batch of one"),
    )


# --- the list ------------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        id="17.soft_targets",
        title="Soft targets",
        reference=soft_target_loss,
        cases=_soft_cases,
        mistakes=(
            Mistake(
                "the divergence runs the wrong way",
                _soft_reversed,
                "The teacher's probabilities weight the differences: it is the teacher that knows "
                "which classes matter. Yours are weighted by the student's.",
            ),
            Mistake(
                "T² is missing",
                _soft_no_square,
                "The divergence is right. But softening makes gradients about T² times smaller: "
                "what takes that back?",
            ),
            Mistake(
                "T instead of T²",
                _soft_times_t,
                "The temperature divides the logits of both sides, so the gradient shrinks with "
                "its square.",
            ),
            Mistake(
                "only the teacher is softened",
                _soft_teacher_only,
                "A student that agrees with its teacher must have a loss of 0. Compare yours with "
                "the same logits on both sides: the temperature belongs to both.",
            ),
            Mistake(
                "only the student is softened",
                _soft_student_only,
                "A student that agrees with its teacher must have a loss of 0. Compare yours with "
                "the same logits on both sides: the temperature belongs to both.",
            ),
            Mistake(
                "the temperature multiplies",
                _soft_multiplies,
                "A high temperature should make probabilities more even. Multiplying makes them "
                "sharper.",
            ),
            Mistake(
                "probabilities where logarithms belong",
                _soft_without_logarithm,
                "Your difference is one of probabilities. KL compares *logarithms* of "
                "probabilities: `log_softmax`, not `softmax`, inside the difference.",
            ),
            Mistake(
                "`kl_div` of probabilities",
                _soft_kl_div_of_probabilities,
                "`F.kl_div` expects the *logarithm* of the student's probabilities as its first "
                "input. Yours gets the probabilities themselves.",
            ),
            Mistake(
                "weighted with logarithms",
                _soft_kl_div_of_logarithms,
                "The weights must be the teacher's probabilities, which sum to 1. Yours are their "
                "logarithms.",
            ),
            Mistake(
                "cross-entropy instead of KL",
                _soft_cross_entropy,
                "The gradient is right: this is KL plus the teacher's entropy. But a student that "
                "agrees with its teacher should read a loss of 0. Subtract what even a perfect "
                "student would have.",
            ),
            Mistake(
                "mean over the classes, too",
                _soft_mean_over_classes,
                "Sum over the classes, mean over the examples. `F.kl_div` does that with "
                '`reduction="batchmean"`, and not with "mean".',
            ),
            Mistake(
                "sum over the batch",
                _soft_sum_over_batch,
                "Take the mean over the examples, or the loss grows with the batch.",
            ),
            Mistake(
                "softmax over the batch",
                _soft_over_the_batch,
                "The classes of one example compete with each other, and examples do not. Which "
                "axis holds the classes?",
            ),
        ),
    ),
    Exercise(
        id="17.matching_layers",
        title="Which layers to compare",
        reference=matching_layers,
        cases=_LAYERS,
        mistakes=(
            Mistake(
                "the first layer of each group",
                _layers_first_of_group,
                "After the teacher's first layer, only a part of the group's work is done, and no "
                "student layer would ever see the teacher's last. Count from the other end of "
                "each group.",
            ),
            Mistake(
                "the teacher's last layers",
                _layers_from_the_top,
                "Then the student's first layer must do what takes the teacher more than half of "
                "its depth. Spread the layers evenly.",
            ),
            Mistake(
                "the teacher's first layers",
                _layers_from_the_bottom,
                "Then the student learns the beginning of the work and never sees its end.",
            ),
            Mistake(
                "in falling order",
                _layers_backwards,
                "The right layers, but the student's first layer should match the earliest of "
                "them.",
            ),
            Mistake(
                "counted from 1",
                _layers_from_one,
                "The layers are numbered from 0, so the last of n has the number n - 1.",
            ),
            Mistake(
                "always every second layer",
                _layers_always_two,
                "This is right when the teacher has twice as many layers. How many of the "
                "teacher's layers does one of the student's replace in general?",
            ),
            Mistake(
                "step and number mixed up",
                _layers_step_of_students,
                "You step by the *number* of student layers. The step is how many teacher layers "
                "each replaces.",
            ),
        ),
    ),
    Exercise(
        id="17.feature_loss",
        title="A loss for features",
        reference=feature_loss,
        cases=_feature_cases,
        mistakes=(
            Mistake(
                "padding counts",
                _feature_padding_counts,
                "What both models make of padding is nobody's concern. Average over real tokens "
                "only.",
            ),
            Mistake(
                "padding counts as 0",
                _feature_padding_as_zero,
                "You set the distance at padding to 0, but still divide by all places. Divide by "
                "the number of real tokens.",
            ),
            Mistake(
                "states are masked, distances are not",
                _feature_states_masked,
                "The cosine of two zero vectors is 0, so padding has the distance 1 in your mean. "
                "Mask the distances.",
            ),
            Mistake(
                "similarity instead of distance",
                _feature_similarity,
                "Your value is largest for a perfect student. A loss must be smallest there.",
            ),
            Mistake(
                "minus the cosine",
                _feature_negative_similarity,
                "The gradient is right, but a perfect student should have the loss 0.",
            ),
            Mistake(
                "product without lengths",
                _feature_product,
                "A cosine divides the product by both lengths. Yours can be cheated by long "
                "vectors.",
            ),
            Mistake(
                "cosine along the tokens",
                _feature_over_tokens,
                "Compare the two vectors of one token: the cosine runs over the width, the last "
                "axis.",
            ),
            Mistake(
                "mean of the texts' means",
                _feature_mean_of_texts,
                "Each token counts once. A mean of means gives the tokens of short texts more "
                "weight.",
            ),
            Mistake(
                "squared difference",
                _feature_squared,
                "That is another good distance, which sees lengths, too. This exercise asks for "
                "the cosine.",
            ),
        ),
    ),
    Exercise(
        id="17.patience",
        title="Patience",
        reference=exit_layers,
        cases=_exit_cases,
        mistakes=(
            Mistake(
                "the counter is not reset",
                _exit_not_reset,
                "Look at predictions 1, 1, 0, 1, 1: when a layer disagrees, patience must start "
                "again from 0.",
            ),
            Mistake(
                "one layer too early",
                _exit_one_early,
                "Patience counts confirmations, not predictions: two equal predictions are one "
                "confirmation.",
            ),
            Mistake(
                "one layer too late",
                _exit_one_late,
                "An example leaves as soon as the confirmations *reach* the patience.",
            ),
            Mistake(
                "layers counted from 0",
                _exit_counts_from_zero,
                "The result says how many layers an example went through, and the first one "
                "counts, too.",
            ),
            Mistake(
                "compared with the first layer",
                _exit_by_the_first,
                "Each layer confirms the one just before it. The first layer may well have been "
                "wrong.",
            ),
            Mistake(
                "the whole batch waits for the slowest",
                _exit_all_together,
                "Each example leaves when it is ready itself. Yours all leave with the last one.",
            ),
            Mistake(
                "the whole batch leaves with the fastest",
                _exit_first_of_batch,
                "Each example leaves when it is ready itself. Yours all leave with the first one.",
            ),
            Mistake(
                "the batch decides by majority",
                _exit_majority,
                "You decide once for the whole batch. An answer must not depend on which other "
                "examples happen to be in the batch.",
            ),
            Mistake(
                "an example that never settles gets 0",
                _exit_never_sure,
                "An example that never settles goes through all layers.",
            ),
        ),
    ),
    Exercise(
        id="17.share_attention",
        title="Share the attention",
        reference=share_attention,
        cases=_share_cases,
        mistakes=(
            Mistake(
                "nothing is shared",
                _share_copies,
                "There are as many parameters as before. Either each layer has a copy of its own, "
                "which the next step of training would change on its own, or you counted a shared "
                "matrix once for each layer. Let all layers refer to one and the same object, and "
                "count with `layers.parameters()`.",
            ),
            Mistake(
                "whole layers are shared",
                _share_whole_layers,
                "Feed-forward and LayerNorms must stay each layer's own. That would be ALBERT's "
                '"all".',
            ),
            Mistake(
                "the feed-forward part is shared",
                _share_feed_forward,
                "That is the other part of the layer. The claim is about W^Q, W^K and W^V.",
            ),
            Mistake(
                "W^O is left out",
                _share_qkv_only,
                "q, k and v are shared; the exercise asks for the whole attention, with its output "
                "projection `out`.",
            ),
            Mistake(
                "biases are left out",
                _share_weights_only,
                "The matrices are shared, their biases are not. Share the module that holds both.",
            ),
            Mistake(
                "only the second layer shares",
                _share_neighbour_only,
                "All layers after the first take the first one's attention.",
            ),
            Mistake(
                "shared in pairs",
                _share_pairs,
                "Each layer shares with a neighbour, but all of them should share one attention.",
            ),
            Mistake(
                "tensors are counted",
                _share_counts_tensors,
                "That is the number of parameter tensors. Add up their numbers: `p.numel()`.",
            ),
        ),
    ),
    Exercise(
        id="17.batch_exit",
        title="Find the bug: one answer for the whole batch",
        reference=confident_exits,
        start=batch_exits,
        cases=_confident_cases,
        mistakes=(
            Mistake(
                "all wait for the least sure",
                _confident_all_sure,
                "Now nobody leaves before the least sure example does. Each one has a layer of its "
                "own.",
            ),
            Mistake(
                "all leave with the surest",
                _confident_any_sure,
                "Now one sure example takes all others with it. Each one has a layer of its own.",
            ),
            Mistake(
                "the last sure layer",
                _confident_last_sure,
                "An example leaves at the *first* layer that is sure enough. It will never see the "
                "later ones.",
            ),
            Mistake(
                "an example that is never sure leaves at once",
                _confident_without_last,
                "`argmax` over nothing but False gives 0. Whoever is never sure goes through all "
                "layers.",
            ),
            Mistake(
                "logits are compared",
                _confident_logits,
                "Logits have no scale: 2.0 may mean 99 % or 30 %. Compare probabilities.",
            ),
            Mistake(
                "softmax over the batch",
                _confident_over_batch,
                "The classes of one example compete. Your softmax runs over the examples.",
            ),
            Mistake(
                "layers counted from 0",
                _confident_counts_from_zero,
                "The first layer is number 1: an example that leaves there has used one layer.",
            ),
        ),
        praise="Each example now leaves by itself.",
    ),
)
