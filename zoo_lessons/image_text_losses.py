"""What BLIP is trained on: contrast (ITC), match (ITM), write (LM); and soft targets for them.

Sources: Li et al., "BLIP" (2022), section 3.2; hard negatives and momentum distillation are from
Li et al., "Align before Fuse" (ALBEF, 2021), sections 3.2 and 3.3. ITC itself is CLIP's loss,
`zoo_lessons.contrastive.contrastive_loss`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.contrastive import MAX_SCALE, contrastive_loss

if TYPE_CHECKING:
    from zoo_lessons.models.blip import BlipForPreTraining

IGNORE = -100  # a label that no loss looks at


def caption_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Cross-entropy of each token given those before it: BLIP's LM loss.

    Args:
        logits: (batch, length, vocab_size), position t scores token t + 1.
        labels: (batch, length), the text itself: the shift by one happens here. -100 is left out;
            padding must carry it.
        label_smoothing: this share of each target is spread evenly over the vocabulary. BLIP: 0.1.
        reduction: "mean" over all tokens of the batch, or "none" for a sum per text.

    Returns:
        (), or (batch) with reduction "none". In nats.

    Raises:
        ValueError: shapes that do not fit, or another reduction.
    """
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected "
            "(batch, length, vocab_size) and (batch, length)"
        )
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction={reduction!r}, expected 'mean' or 'none'")
    losses = F.cross_entropy(
        logits[:, :-1].flatten(0, 1),  # the last position has nothing to predict
        labels[:, 1:].flatten(),  # and nothing predicts the first token
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    return losses if reduction == "mean" else losses.unflatten(0, (len(labels), -1)).sum(dim=1)


def caption_labels(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The ids (batch, length) with -100 where `attention_mask` is 0."""
    return input_ids.masked_fill(attention_mask == 0, IGNORE)


class HardNegatives(NamedTuple):
    """For each text an image that does not match it, and for each image such a text."""

    images: Tensor  # (batch): row of the image for text i
    texts: Tensor  # (batch): row of the text for image i


@torch.no_grad()
def hard_negatives(
    logits_per_image: Tensor,
    same: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> HardNegatives:
    """Draw negatives that ITC finds hard: the more similar, the likelier (section 3.2).

    Args:
        logits_per_image: similarities over the temperature, (images, texts), square.
        same: Boolean (images, texts), True where they match; those are never drawn. By default
            only pairs (i, i) match.
        generator: source of randomness.

    Raises:
        ValueError: not square, or an image or text that everything in the batch matches.
    """
    batch = len(logits_per_image)
    if logits_per_image.shape != (batch, batch):
        raise ValueError(
            f"logits have shape {tuple(logits_per_image.shape)}, expected as many images as texts"
        )
    if same is None:
        same = torch.eye(batch, dtype=torch.bool, device=logits_per_image.device)
    if same.all(dim=0).any() or same.all(dim=1).any():
        raise ValueError(
            f"no negative is left in a batch of {batch}: some image or text matches everything"
        )
    scores = logits_per_image.float().masked_fill(same, -math.inf)
    draw = lambda rows: torch.multinomial(rows.softmax(dim=1), 1, generator=generator)[:, 0]  # noqa: E731
    return HardNegatives(images=draw(scores.T), texts=draw(scores))


def image_text_matching_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of ITM's two logits: BLIP's matching loss.

    Args:
        positive: logits (pairs, 2) of pairs that match; column 1 says "matches".
        negative: logits (pairs, 2) of pairs that do not. BLIP has two for each positive.

    Returns:
        A scalar in nats, the mean over all pairs.
    """
    logits = torch.cat([positive, negative])
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    labels[: len(positive)] = 1
    return F.cross_entropy(logits, labels)


@torch.no_grad()
def soft_targets(targets: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
    """(1 - α) · targets + α · softmax(teacher): pseudo-labels (ALBEF, equation 6).

    Args:
        targets: probabilities (..., classes), rows that sum to 1, one-hot for plain labels.
        teacher_logits: the same shape, from a momentum model.
        alpha: 0 trusts the labels alone, 1 the teacher alone. BLIP: 0.4.

    Raises:
        ValueError: alpha outside 0 to 1, or shapes that differ.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha={alpha}, expected a share from 0 to 1")
    if targets.shape != teacher_logits.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}, expected the same"
        )
    return (1 - alpha) * targets + alpha * teacher_logits.softmax(dim=-1)


def distilled_contrastive_loss(
    logits_per_image: Tensor,
    teacher_logits: Tensor,
    alpha: float,
    same: Tensor | None = None,
) -> Tensor:
    """ITC with soft targets: another text of the batch that fits an image as well is no mistake.

    Args:
        logits_per_image: similarities over the temperature, (images, texts).
        teacher_logits: the momentum model's, the same shape.
        alpha: share of the teacher in the targets.
        same: Boolean (images, texts), True where they match; by default pairs (i, i).

    Returns:
        A scalar in nats. With alpha 0 it is `zoo_lessons.contrastive.matching_loss`.
    """
    batch = len(logits_per_image)
    matches = torch.eye(batch, dtype=torch.bool) if same is None else same
    matches = matches.to(logits_per_image)
    losses = []
    for logits, teacher, hits in (
        (logits_per_image, teacher_logits, matches),
        (logits_per_image.T, teacher_logits.T, matches.T),
    ):
        targets = soft_targets(hits / hits.sum(dim=1, keepdim=True), teacher, alpha)
        losses.append(F.cross_entropy(logits, targets))
    return sum(losses) / 2


class MomentumModel:
    """A slow copy of a model: the exponential moving average of its weights.

    After each step, slow = m · slow + (1 - m) · fast. The copy is steadier than the model, and so
    a better teacher (ALBEF, section 3.3).

    Args:
        model: what to follow. The copy is in evaluation mode and gets no gradients.
        momentum: m. BLIP: 0.995, for hundreds of thousands of steps; short runs need less.

    Raises:
        ValueError: a momentum outside 0 to 1.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.995):
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum={momentum}, expected a share from 0 to 1")
        self.momentum = momentum
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move one step towards the model. Buffers, such as BatchNorm's, are copied.

        Raises:
            ValueError: another model than the one that was copied.
        """
        slow, fast = dict(self.model.named_parameters()), dict(model.named_parameters())
        if slow.keys() != fast.keys():
            raise ValueError("the model's parameters are not those of the momentum copy")
        for name, parameter in slow.items():
            parameter.lerp_(fast[name], 1.0 - self.momentum)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


LOSSES = ("itc", "itm", "lm")


class PretrainingLosses(NamedTuple):
    """BLIP's three losses, each a scalar in nats; 0 for one that is off."""

    itc: Tensor
    itm: Tensor
    lm: Tensor

    @property
    def total(self) -> Tensor:
        """Their plain sum, as in BLIP."""
        return self.itc + self.itm + self.lm


def pretraining_losses(
    model: BlipForPreTraining,
    pixel_values: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    same: Tensor | None = None,
    *,
    losses: Collection[str] = LOSSES,
    momentum: MomentumModel | None = None,
    alpha: float = 0.4,
    generator: torch.Generator | None = None,
) -> PretrainingLosses:
    """The three losses of a batch: the image is encoded once, the text three times.

    Args:
        model: in training mode or not.
        pixel_values: (batch, channels, height, width).
        input_ids, attention_mask: captions (batch, length), `[any token] words sep_token_id`.
        same: Boolean (batch, batch), True where image i and caption j match; by default pairs
            (i, i).
        losses: those that are on, of `LOSSES`; the others are not computed.
        momentum: the teacher of ITC's soft targets; without it the targets are hard.
        alpha: the teacher's share.
        generator: draws the hard negatives.

    Raises:
        ValueError: no loss, or an unknown one.
    """
    if not losses or not set(losses) <= set(LOSSES):
        raise ValueError(f"losses={tuple(losses)}, expected one or more of {LOSSES}")
    image = model.encode_image(pixel_values)
    itc = itm = lm = image.new_zeros(())
    if "itc" in losses or "itm" in losses:
        image_features = model.image_features(image)
        text_features = model.text_features(input_ids, attention_mask)
        logit_scale = model.logit_scale.clamp(max=math.log(MAX_SCALE))
        logits = logit_scale.exp() * image_features @ text_features.T

    if "itc" in losses and momentum is None:
        itc = contrastive_loss(image_features, text_features, logit_scale, same)
    elif "itc" in losses:
        with torch.no_grad():
            slow = momentum.model
            teacher = (
                slow.logit_scale.clamp(max=math.log(MAX_SCALE)).exp()
                * slow.image_features(slow.encode_image(pixel_values))
                @ slow.text_features(input_ids, attention_mask).T
            )
        itc = distilled_contrastive_loss(logits, teacher, alpha, same)

    if "itm" in losses:
        chosen = hard_negatives(logits.detach(), same, generator=generator)
        positive = model.match(input_ids, attention_mask, image)
        negative = model.match(  # each text with a wrong image, each image with a wrong text
            torch.cat([input_ids, input_ids[chosen.texts]]),
            torch.cat([attention_mask, attention_mask[chosen.texts]]),
            torch.cat([image[chosen.images], image]),
        )
        itm = image_text_matching_loss(positive, negative)

    if "lm" in losses:
        lm = caption_loss(
            model.caption_logits(input_ids, attention_mask, image),
            caption_labels(input_ids, attention_mask),
            label_smoothing=model.config.label_smoothing,
        )
    return PretrainingLosses(itc, itm, lm)
