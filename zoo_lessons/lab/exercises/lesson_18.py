"""Exercises of lesson 18: words and copies, mixed images, attacks, and steps through noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.lesson_18_samples import SAMPLES_EXERCISES
from zoo_lessons.lab.exercises.lesson_18_text import TEXT_EXERCISES
from zoo_lessons.lab.exercises.run import Case

# --- MixUp ---------------------------------------------------------------------------------------


def mixup(
    images: Tensor, labels: Tensor, order: Tensor, lam: float, num_labels: int
) -> tuple[Tensor, Tensor]:
    targets = F.one_hot(labels, num_labels).to(images.dtype)
    return (
        lam * images + (1 - lam) * images[order],
        lam * targets + (1 - lam) * targets[order],
    )


def _mixup_labels_swapped(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    return mixed, mixup(images, labels, order, 1 - lam, num_labels)[1]


def _mixup_images_swapped(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, 1 - lam, num_labels)
    return mixed, mixup(images, labels, order, lam, num_labels)[1]


def _mixup_both_swapped(images, labels, order, lam, num_labels):
    return mixup(images, labels, order, 1 - lam, num_labels)


def _mixup_first_label_only(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    return mixed, F.one_hot(labels, num_labels).to(images.dtype)


def _mixup_larger_label(images, labels, order, lam, num_labels):
    mixed, targets = mixup(images, labels, order, lam, num_labels)
    return mixed, F.one_hot(targets.argmax(dim=1), num_labels).to(images.dtype)


def _mixup_class_numbers(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    number = lam * labels + (1 - lam) * labels[order]
    return mixed, F.one_hot(number.round().long(), num_labels).to(images.dtype)


def _mixup_labels_of_other_partners(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    return mixed, mixup(images, labels, order.argsort(), lam, num_labels)[1]


def _mixup_images_of_other_partners(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order.argsort(), lam, num_labels)
    return mixed, mixup(images, labels, order, lam, num_labels)[1]


def _mixup_images_stay(images, labels, order, lam, num_labels):
    return images, mixup(images, labels, order, lam, num_labels)[1]


def _mixup_halves(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    return mixed, mixup(images, labels, order, 0.5, num_labels)[1]


def _mixup_in_place(images, labels, order, lam, num_labels):
    mixed, targets = mixup(images, labels, order, lam, num_labels)
    return images.copy_(mixed), targets


def _mixup_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 4, 6, generator=draw)
    labels, order = torch.tensor([3, 0, 6, 3, 5]), torch.tensor([2, 0, 4, 1, 3])
    double = torch.rand(4, 3, 2, 2, generator=draw, dtype=torch.float64)
    return (
        Case((images, labels, order, 0.7, 7), label="five images, λ = 0.7"),
        Case((images, labels, order, 0.2, 9), label="the partner has the larger share"),
        Case(
            (double, torch.tensor([0, 2, 1, 0]), torch.tensor([1, 2, 3, 0]), 0.9, 3),
            label="colour, float64",
        ),
    )


# --- CutMix --------------------------------------------------------------------------------------


def cutmix(
    images: Tensor, targets: Tensor, order: Tensor, lam: float, row: int, column: int
) -> tuple[Tensor, Tensor]:
    return _cut(images, targets, order, lam, row, column)


def _cut(
    images,
    targets,
    order,
    lam,
    row,
    column,
    *,
    side=lambda lam: (1 - lam) ** 0.5,
    share=None,
    label_order=None,
    clip=True,
):
    height, width = images.shape[-2:]
    tall, wide = round(height * side(lam)), round(width * side(lam))
    top, left = row - tall // 2, column - wide // 2
    bottom, right = top + tall, left + wide
    if clip:
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, height), min(right, width)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    kept = kept if share is None else share(kept, lam)
    partners = targets[order if label_order is None else label_order]
    return mixed, kept * targets + (1 - kept) * partners


def _cut_not_recomputed(*args):
    return _cut(*args, share=lambda kept, lam: lam)


def _cut_full_box_counted(images, targets, order, lam, row, column):
    height, width = images.shape[-2:]
    tall, wide = (round(side * (1 - lam) ** 0.5) for side in (height, width))
    kept = 1 - tall * wide / (height * width)
    return _cut(images, targets, order, lam, row, column, share=lambda _, __: kept)


def _cut_side_without_root(*args):
    return _cut(*args, side=lambda lam: 1 - lam)


def _cut_box_of_lambda(*args):
    return _cut(*args, side=lambda lam: lam**0.5)


def _cut_labels_swapped(*args):
    return _cut(*args, share=lambda kept, lam: 1 - kept)


def _cut_labels_of_other_partners(images, targets, order, lam, row, column):
    return _cut(images, targets, order, lam, row, column, label_order=order.argsort())


def _cut_not_clipped(*args):
    return _cut(*args, clip=False)


def _cut_moved_inside(images, targets, order, lam, row, column):
    height, width = images.shape[-2:]
    tall, wide = (round(side * (1 - lam) ** 0.5) for side in (height, width))
    row = min(max(row - tall // 2, 0), height - tall) + tall // 2
    column = min(max(column - wide // 2, 0), width - wide) + wide // 2
    return _cut(images, targets, order, lam, row, column)


def _cut_axes_swapped(images, targets, order, lam, row, column):
    turned, mixed_targets = _cut(images.mT, targets, order, lam, row, column)
    return turned.mT, mixed_targets


def _cut_zeros(images, targets, order, lam, row, column):
    mixed, mixed_targets = _cut(images, targets, order, lam, row, column)
    return torch.where(mixed == images, images, 0.0), mixed_targets


def _cut_in_place(images, targets, order, lam, row, column):
    mixed, mixed_targets = _cut(images, targets, order, lam, row, column)
    return images.copy_(mixed), mixed_targets


def _cut_first_label_only(*args):
    return _cut(*args, share=lambda kept, lam: 1.0)


def _cut_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(5, 2, 8, 13, generator=draw)
    targets = torch.eye(5)[[3, 0, 4, 3, 1]]
    order = torch.tensor([2, 0, 4, 1, 3])
    return (
        Case((images, targets, order, 0.6, 4, 6), label="the box lies inside"),
        Case((images, targets, order, 0.3, 0, 11), label="the box is clipped at a corner"),
        Case((images, targets, order, 0.55, 6, 3), label="the box is clipped below"),
        Case(
            (images.double(), targets.double(), order, 0.8, 1, 1),
            label="a small box near the edge, float64",
        ),
    )


# --- FGSM ----------------------------------------------------------------------------------------


def fgsm_step(images: Tensor, gradient: Tensor, epsilon: float) -> Tensor:
    return (images + epsilon * gradient.sign()).clamp(0, 1)


def _fgsm_gradient(images, gradient, epsilon):
    return (images + epsilon * gradient).clamp(0, 1)


def _fgsm_unit_length(images, gradient, epsilon):
    length = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (images.ndim - 1))
    return (images + epsilon * gradient / length).clamp(0, 1)


def _fgsm_unit_maximum(images, gradient, epsilon):
    most = gradient.abs().flatten(1).amax(dim=1).view(-1, *[1] * (images.ndim - 1))
    return (images + epsilon * gradient / most).clamp(0, 1)


def _fgsm_descends(images, gradient, epsilon):
    return (images - epsilon * gradient.sign()).clamp(0, 1)


def _fgsm_not_clipped(images, gradient, epsilon):
    return images + epsilon * gradient.sign()


def _fgsm_clipped_to_one_around_zero(images, gradient, epsilon):
    return (images + epsilon * gradient.sign()).clamp(-1, 1)


def _fgsm_step_clipped(images, gradient, epsilon):
    return (epsilon * gradient.sign()).clamp(0, 1) + images


def _fgsm_change_alone(images, gradient, epsilon):
    return epsilon * gradient.sign()


def _fgsm_in_place(images, gradient, epsilon):
    return images.copy_(fgsm_step(images, gradient, epsilon))


def _fgsm_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(3, 1, 4, 5, generator=draw)
    images[0, 0, 0], images[0, 0, 1] = 0.0, 1.0
    gradient = torch.randn(3, 1, 4, 5, generator=draw)
    gradient[1, 0, 2] = 0.0
    return (
        Case((images, gradient, 0.1), label="black and white pixels, and gradients of 0"),
        Case((images, 1e-4 * gradient, 0.05), label="tiny gradients"),
        Case((images[:1].double(), gradient[:1].double(), 0.3), label="one image, float64"),
    )


# --- PGD -----------------------------------------------------------------------------------------


def pgd_step(
    changed: Tensor, images: Tensor, gradient: Tensor, step_size: float, epsilon: float
) -> Tensor:
    moved = changed + step_size * gradient.sign()
    return (images + (moved - images).clamp(-epsilon, epsilon)).clamp(0, 1)


def _pgd_no_projection(changed, images, gradient, step_size, epsilon):
    return (changed + step_size * gradient.sign()).clamp(0, 1)


def _pgd_projects_around_the_last_point(changed, images, gradient, step_size, epsilon):
    return (changed + (step_size * gradient.sign()).clamp(-epsilon, epsilon)).clamp(0, 1)


def _pgd_starts_over(changed, images, gradient, step_size, epsilon):
    return pgd_step(images, images, gradient, step_size, epsilon)


def _pgd_not_clipped(changed, images, gradient, step_size, epsilon):
    moved = changed + step_size * gradient.sign()
    return images + (moved - images).clamp(-epsilon, epsilon)


def _pgd_gradient(changed, images, gradient, step_size, epsilon):
    moved = changed + step_size * gradient
    return (images + (moved - images).clamp(-epsilon, epsilon)).clamp(0, 1)


def _pgd_descends(changed, images, gradient, step_size, epsilon):
    return pgd_step(changed, images, -gradient, step_size, epsilon)


def _pgd_clamps_pixels_to_epsilon(changed, images, gradient, step_size, epsilon):
    return (changed + step_size * gradient.sign()).clamp(-epsilon, epsilon).clamp(0, 1)


def _pgd_scales_into_the_ball(changed, images, gradient, step_size, epsilon):
    change = changed + step_size * gradient.sign() - images
    most = change.flatten(1).abs().amax(dim=1).view(-1, *[1] * (images.ndim - 1))
    return (images + change * (epsilon / most).clamp(max=1)).clamp(0, 1)


def _pgd_full_step(changed, images, gradient, step_size, epsilon):
    return pgd_step(changed, images, gradient, epsilon, epsilon)


def _pgd_in_place(changed, images, gradient, step_size, epsilon):
    return changed.copy_(pgd_step(changed, images, gradient, step_size, epsilon))


def _pgd_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(3)
    images = torch.rand(3, 1, 4, 5, generator=draw)
    images[0, 0, 0], images[0, 0, 1] = 0.0, 1.0

    def near(epsilon: float) -> Tensor:
        noise = 2 * torch.rand(images.shape, generator=draw) - 1
        return (images + epsilon * noise).clamp(0, 1)

    gradient = torch.randn(images.shape, generator=draw)
    return (
        Case(
            (near(0.1), images, gradient, 0.03, 0.1), label="on the way, some pixels at the limit"
        ),
        Case(
            (near(0.2), images, 1e-3 * gradient, 0.25, 0.2),
            label="a step beyond the ball, tiny gradients",
        ),
        Case(
            (near(0.1).double(), images.double(), gradient.double(), 0.02, 0.1),
            label="small steps, float64",
        ),
    )


IMAGE_EXERCISES = (
    Exercise(
        id="18.mixup",
        title="MixUp",
        reference=mixup,
        cases=_mixup_cases,
        mistakes=(
            Mistake(
                "the labels' shares are swapped",
                _mixup_labels_swapped,
                "The image that fills λ of the mixture owns λ of its label. Yours gives its label "
                "1 − λ.",
            ),
            Mistake(
                "the images' shares are swapped",
                _mixup_images_swapped,
                "The targets are right, the pixels are not: λ belongs to the image itself, 1 − λ "
                "to its partner.",
            ),
            Mistake(
                "λ belongs to the partner",
                _mixup_both_swapped,
                "Images and targets agree with each other, but λ is the share of the image itself. "
                "Try λ = 1: nothing should change.",
            ),
            Mistake(
                "the label of the first image alone",
                _mixup_first_label_only,
                "The image is a mixture, its target is not. The model would be told that the "
                "partner's pixels mean nothing.",
            ),
            Mistake(
                "the label of the larger share",
                _mixup_larger_label,
                "You round the shares to 0 and 1. The target should say how much of each there is.",
            ),
            Mistake(
                "numbers of classes are mixed",
                _mixup_class_numbers,
                "Class numbers are names, not amounts: half a 2 and half an 8 is no 5. Make the "
                "labels one-hot first.",
            ),
            Mistake(
                "the labels come from other partners",
                _mixup_labels_of_other_partners,
                "Images and labels need the same partners. Sorting `order` turns it round: index "
                "with `order` itself.",
            ),
            Mistake(
                "the images come from other partners",
                _mixup_images_of_other_partners,
                "Image i is mixed with image `order[i]`. Yours is mixed with the one whose partner "
                "it is.",
            ),
            Mistake(
                "the images are not mixed",
                _mixup_images_stay,
                "The targets are mixed, the images came back as they were.",
            ),
            Mistake(
                "half of each label",
                _mixup_halves,
                "Both labels have a share of 0.5, whatever λ is.",
            ),
            Mistake(
                "the images are changed in place",
                _mixup_in_place,
                "The result is right, but the training images themselves have changed: in the next "
                "epoch, mixtures would be mixed again. Make a new tensor.",
            ),
        ),
    ),
    Exercise(
        id="18.cutmix",
        title="CutMix",
        reference=cutmix,
        cases=_cut_cases,
        mistakes=(
            Mistake(
                "λ is not recomputed",
                _cut_not_recomputed,
                "The edge has clipped the box, and pixels are whole: the first image kept another "
                "share than λ. Count the pixels that were really exchanged.",
            ),
            Mistake(
                "the box is counted before it is clipped",
                _cut_full_box_counted,
                "You count the pixels of the whole box. Those outside the image were never "
                "exchanged.",
            ),
            Mistake(
                "the sides lack the root",
                _cut_side_without_root,
                "The *area* of the box should be 1 − λ of the image. With sides of 1 − λ, the area "
                "is (1 − λ)².",
            ),
            Mistake(
                "the box has the share λ",
                _cut_box_of_lambda,
                "λ is what the first image keeps, outside the box. The box has 1 − λ.",
            ),
            Mistake(
                "the labels' shares are swapped",
                _cut_labels_swapped,
                "What is inside the box comes from the partner. Its label gets the share of the "
                "box.",
            ),
            Mistake(
                "the labels come from other partners",
                _cut_labels_of_other_partners,
                "Images and labels need the same partners: index both with `order`.",
            ),
            Mistake(
                "the box is not clipped",
                _cut_not_clipped,
                "A slice that begins at a negative number counts from the other end: the box "
                "vanishes. Clip it first.",
            ),
            Mistake(
                "the box is moved inside",
                _cut_moved_inside,
                "You push the box back until it fits. It should stay where it is, and lose what "
                "lies outside: otherwise the corners are hardly ever cut.",
            ),
            Mistake(
                "rows and columns are swapped",
                _cut_axes_swapped,
                "`row` counts down, along the last axis but one. Look at an image that is not "
                "square.",
            ),
            Mistake(
                "the box is empty",
                _cut_zeros,
                "Your box is black. That is Cutout (DeVries & Taylor 2017); CutMix fills it from "
                "the partner.",
            ),
            Mistake(
                "the label of the first image alone",
                _cut_first_label_only,
                "The box shows another class, and the target does not say so.",
            ),
            Mistake(
                "the images are changed in place",
                _cut_in_place,
                "The result is right, but the training images themselves have changed. Clone them "
                "first.",
            ),
        ),
    ),
    Exercise(
        id="18.fgsm_step",
        title="One step uphill",
        reference=fgsm_step,
        cases=_fgsm_cases,
        mistakes=(
            Mistake(
                "the gradient instead of its sign",
                _fgsm_gradient,
                "Gradients of pixels are tiny, so almost nothing moves. Every pixel may move by ε: "
                "use the sign.",
            ),
            Mistake(
                "the gradient at unit length",
                _fgsm_unit_length,
                "That limits the length of the whole change. Here each pixel has its own limit, "
                "and each should use all of it.",
            ),
            Mistake(
                "the gradient scaled to its maximum",
                _fgsm_unit_maximum,
                "Only the pixel with the largest gradient moves by ε. All may.",
            ),
            Mistake(
                "downhill",
                _fgsm_descends,
                "Your step makes the loss smaller: it helps the model. An attack climbs.",
            ),
            Mistake(
                "not clipped to 0 and 1",
                _fgsm_not_clipped,
                "Some pixels are now blacker than black or whiter than white: no image can hold "
                "them.",
            ),
            Mistake(
                "clipped to -1 and 1",
                _fgsm_clipped_to_one_around_zero,
                "These images go from 0 to 1. The model's own scale comes later.",
            ),
            Mistake(
                "the change is clipped, not the image",
                _fgsm_step_clipped,
                "You clip the step, which loses all that go down. The *image* must stay within 0 "
                "to 1.",
            ),
            Mistake(
                "the change without the image",
                _fgsm_change_alone,
                "This is the change. Add it to the image.",
            ),
            Mistake(
                "the images are changed in place",
                _fgsm_in_place,
                "The result is right, but the caller's images have changed too.",
            ),
        ),
    ),
    Exercise(
        id="18.pgd_step",
        title="A step, and back into the ball",
        reference=pgd_step,
        cases=_pgd_cases,
        mistakes=(
            Mistake(
                "no projection",
                _pgd_no_projection,
                "After many such steps, pixels are far more than ε from the original. Bring them "
                "back *after* the step.",
            ),
            Mistake(
                "projected around the last point",
                _pgd_projects_around_the_last_point,
                "You limit the *step* to ε, so the changes add up. The limit is on the distance "
                "from the original image.",
            ),
            Mistake(
                "it starts over from the image",
                _pgd_starts_over,
                "Each step begins where the last one ended, at `changed`.",
            ),
            Mistake(
                "not clipped to 0 and 1",
                _pgd_not_clipped,
                "Inside the ε-ball, but no longer an image: pixels must stay within 0 to 1.",
            ),
            Mistake(
                "the gradient instead of its sign",
                _pgd_gradient,
                "Take the sign: each pixel moves by the whole step size.",
            ),
            Mistake(
                "downhill",
                _pgd_descends,
                "Your step makes the loss smaller. An attack climbs.",
            ),
            Mistake(
                "pixels clamped to ε",
                _pgd_clamps_pixels_to_epsilon,
                "You clamp the pixels themselves to ±ε, and the image turns black. Clamp the "
                "*difference* to the original.",
            ),
            Mistake(
                "scaled into the ball",
                _pgd_scales_into_the_ball,
                "You shrink the whole change until its largest entry fits. The nearest point of "
                "the ball is found pixel by pixel: only those that are too far come back.",
            ),
            Mistake(
                "each step is ε",
                _pgd_full_step,
                "The step has its own size, smaller than ε: that is the point of many steps.",
            ),
            Mistake(
                "the images are changed in place",
                _pgd_in_place,
                "The result is right, but the caller's images have changed too.",
            ),
        ),
    ),
)

EXERCISES = (*TEXT_EXERCISES, *IMAGE_EXERCISES, *SAMPLES_EXERCISES)
