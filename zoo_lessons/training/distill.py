"""Distillation: a student learns from what its teacher says, and from how it gets there.

Sources: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2
(soft targets); Romero et al., "FitNets" (2015), section 2.2 (features, through a projection where
widths differ); Sanh et al., "DistilBERT" (2019), section 3 (the cosine of hidden states).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

Distance = Literal["cosine", "squared"]


def soft_target_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 2.0,
    mask: Tensor | None = None,
) -> Tensor:
    """T² · KL(teacher ‖ student), both softened by the temperature T.

    A high temperature shows how the teacher ranks the wrong answers. Softening divides the
    gradient by about T²; the factor T² takes that back, so that the loss can be added to others
    and T be changed alone (section 2).

    Args:
        student_logits: (..., classes).
        teacher_logits: the same shape; no gradient flows to the teacher.
        temperature: above 0; 1 leaves the probabilities as they are.
        mask: True where to learn, (...), for example the masked tokens; everywhere by default.

    Returns:
        The mean over all places, ().

    Raises:
        ValueError: shapes that differ, a temperature not above 0, a mask that is all False.
    """
    _require_same("student_logits", student_logits, "teacher_logits", teacher_logits)
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}, expected above 0")
    student = (student_logits / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits.detach() / temperature).log_softmax(dim=-1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1)  # (...)
    return temperature**2 * _mean(divergence, mask)


def feature_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    distance: Distance = "cosine",
) -> Tensor:
    """How far the student's hidden states are from the teacher's.

    Args:
        student: (..., width); project it first if its width is another.
        teacher: the same shape; no gradient flows to it.
        mask: True for tokens, False for padding, (...).
        distance: "cosine", 1 - cos, sees directions only; "squared", the mean square of the
            difference, sees lengths, too.

    Returns:
        The mean over all places, ().

    Raises:
        ValueError: shapes that differ, an unknown distance, a mask that is False everywhere.
    """
    _require_same("student", student, "teacher", teacher)
    if distance not in get_args(Distance):
        raise ValueError(f"distance={distance!r}, expected one of {', '.join(get_args(Distance))}")
    teacher = teacher.detach()
    if distance == "cosine":
        return _mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask)
    return _mean((student - teacher).square().mean(dim=-1), mask)


@contextmanager
def record_layers(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what each entry of `model.layers` returns inside the `with` block, in order.

    Gradients flow through, so that a loss on them trains the model. Call the model once: a second
    call adds its states to the first's.

    Yields:
        A list that fills as the model runs; for encoders, (batch, length, d_model) for each layer.

    Raises:
        ValueError: the model has no list of layers.
    """
    layers = getattr(model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"{type(model).__name__} has no ModuleList `layers`: give the encoder inside it"
        )
    states: list[Tensor] = []
    handles = [  # a layer that is used several times (ALBERT) gets one hook, which then fires often
        layer.register_forward_hook(lambda _module, _inputs, output: states.append(output))
        for layer in dict.fromkeys(layers)
    ]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    if mask.shape != values.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(values.shape)}")
    if not mask.any():
        raise ValueError("mask is False everywhere, expected at least one place to learn from")
    return values[mask.bool()].mean()


def _require_same(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.shape != other.shape:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} and {other_name} {tuple(other.shape)}, "
            "expected the same"
        )
