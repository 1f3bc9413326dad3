"""Adversarial examples: images changed so little that we hardly see it, so that a model errs.

Both attacks keep each pixel within ε of the original, and inside 0 to 1. Sources: Goodfellow,
Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples" (2015), section 4 (FGSM, one
step); Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (2018), section
2.1 and appendix (PGD, several steps from a random start, and training on what it finds).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Classify = Callable[[Tensor], Tensor]


def fgsm(classify: Classify, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    """One step of ε along the sign of the gradient: x + ε · sign(∂loss/∂x).

    Args:
        classify: images (batch, ...) from 0 to 1 -> logits (batch, classes). It must let gradients
            through; a model that normalises does so inside.
        images: (batch, ...), from 0 to 1.
        labels: (batch,), the right classes; the attack leads away from them.
        epsilon: how far a pixel may move.

    Returns:
        The changed images, without gradient; the shape of `images`.

    Raises:
        ValueError: ε is negative, or a pixel is outside 0 to 1.
    """
    _check(images, epsilon)
    step = epsilon * loss_gradient(classify, images, labels).sign()
    return (images + step).clamp(0, 1)


def pgd(
    classify: Classify,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step_size: float | None = None,
    steps: int = 20,
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Several small steps like `fgsm`'s, each followed by a projection back to the ε-ball.

    Args:
        classify, images, labels, epsilon: as for `fgsm`.
        step_size: of one step; by default 2.5 · ε / steps, enough to cross the ball and come back.
        steps: how many.
        random_start: begin at a random point of the ball, not at the image.
        generator: of the random start.

    Returns:
        The changed images after the last step, without gradient; the shape of `images`.

    Raises:
        ValueError: ε or the step size is negative, no step, or a pixel is outside 0 to 1.
    """
    _check(images, epsilon)
    step_size = 2.5 * epsilon / steps if step_size is None and steps else step_size
    if steps < 1 or step_size < 0:
        raise ValueError(f"got steps={steps} and step_size={step_size}, expected at least 1 and 0")
    changed = images
    if random_start:
        noise = 2 * torch.rand(images.shape, generator=generator) - 1
        changed = (images + epsilon * noise.to(images)).clamp(0, 1)
    for _ in range(steps):
        changed = changed + step_size * loss_gradient(classify, changed, labels).sign()
        change = (changed - images).clamp(-epsilon, epsilon)  # the nearest point of the ball
        changed = (images + change).clamp(0, 1)
    return changed


def loss_gradient(classify: Classify, images: Tensor, labels: Tensor) -> Tensor:
    """∂loss/∂x of each image's own cross-entropy; the shape of `images`.

    The model's parameters get no gradient, so an attack can run in the middle of training.
    """
    x = images.detach().requires_grad_(True)
    with torch.enable_grad():
        # A sum, not a mean: no image's gradient depends on how many others there are.
        loss = F.cross_entropy(classify(x), labels, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


@torch.no_grad()
def is_right(classify: Classify, images: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest logit is the label's, for each image: (batch,)."""
    return classify(images).argmax(dim=-1) == labels


def robust_accuracy(
    classify: Classify,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 20,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> float:
    """Share of images that are classified right, as they are and after each of several `pgd` runs.

    An upper bound of what the model withstands: a better attack can only lower it.

    Args:
        classify, images, labels, epsilon, steps, generator: as for `pgd`.
        restarts: runs of the attack, each from its own random start. One that succeeds counts.

    Raises:
        ValueError: no restart, or what `pgd` raises.
    """
    if restarts < 1:
        raise ValueError(f"restarts={restarts} must be at least 1")
    right = is_right(classify, images, labels)
    if epsilon > 0:
        for _ in range(restarts):
            attack = {"epsilon": epsilon, "steps": steps, "generator": generator}
            right &= is_right(classify, pgd(classify, images, labels, **attack), labels)
    return right.float().mean().item()


def _check(images: Tensor, epsilon: float) -> None:
    if epsilon < 0:
        raise ValueError(f"epsilon={epsilon} must not be negative")
    low, high = images.aminmax()
    if low < 0 or high > 1:
        raise ValueError(
            f"images have pixels from {low:g} to {high:g}, expected 0 to 1: attack the image, and "
            "let `classify` normalise it"
        )
