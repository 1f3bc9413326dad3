"""The contrastive loss: pull matching images and texts together, push the others apart.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(2021), section 2.3 and figure 3. That two equal captions in a batch both match is not in the paper:
with 32,768 pairs from the web it hardly happens, with a few hundred captions it happens all the
time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SCALE = 100.0  # section 2.5: larger factors made training unstable


def contrastive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor | float,
    same: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over the rows and over the columns of the similarity matrix, averaged.

    Each image has to find its text among the texts of the batch, and each text its image.

    Args:
        image_embeds: (batch, width), rows of length 1.
        text_embeds: (batch, width), rows of length 1; text i belongs to image i.
        logit_scale: as CLIP learns it, log(1 / temperature). The similarities are multiplied by
            exp(logit_scale), which divides them by the temperature.
        same: Boolean (batch, batch), True where image i and text j match, as from `same_captions`.
            A row with several matches shares its target evenly among them. By default only pairs
            (i, i) match.

    Returns:
        A scalar, in nats.

    Raises:
        ValueError: shapes that do not fit, rows that are not of length 1, or an image that does not
            match its own text.
        TypeError: `same` is not Boolean.
    """
    _require_embeddings(image_embeds, text_embeds)
    scale = torch.as_tensor(logit_scale, dtype=image_embeds.dtype, device=image_embeds.device).exp()
    logits_per_image = scale * image_embeds @ text_embeds.T  # (images, texts)
    return matching_loss(logits_per_image, same)


def matching_loss(logits_per_image: Tensor, same: Tensor | None = None) -> Tensor:
    """The same loss from the scaled similarities (images, texts), which must be square.

    Raises:
        ValueError, TypeError: as `contrastive_loss`.
    """
    batch = len(logits_per_image)
    if logits_per_image.shape != (batch, batch):
        raise ValueError(
            f"logits have shape {tuple(logits_per_image.shape)}, expected as many images as texts"
        )
    if same is None:
        targets = torch.arange(batch, device=logits_per_image.device)
        return _both_ways(logits_per_image, targets, targets)
    _require_same(same, batch)
    matches = same.to(logits_per_image.dtype)
    return _both_ways(
        logits_per_image,
        matches / matches.sum(dim=1, keepdim=True),
        (matches / matches.sum(dim=0, keepdim=True)).T,
    )


def same_captions(captions: Sequence[Hashable]) -> Tensor:
    """Boolean (batch, batch): True where two captions are equal."""
    numbers: dict[Hashable, int] = {}
    ids = torch.tensor([numbers.setdefault(caption, len(numbers)) for caption in captions])
    return ids[:, None] == ids[None, :]


def _both_ways(logits_per_image: Tensor, text_targets: Tensor, image_targets: Tensor) -> Tensor:
    find_text = F.cross_entropy(logits_per_image, text_targets)  # one softmax per row
    find_image = F.cross_entropy(logits_per_image.T, image_targets)  # one softmax per column
    return (find_text + find_image) / 2


def _require_embeddings(image_embeds: Tensor, text_embeds: Tensor) -> None:
    if image_embeds.ndim != 2 or image_embeds.shape != text_embeds.shape:
        raise ValueError(
            f"image_embeds has shape {tuple(image_embeds.shape)} and text_embeds "
            f"{tuple(text_embeds.shape)}, expected the same (batch, width) for both"
        )
    if image_embeds.device.type != "cpu":
        return  # reading values would stall the GPU's queue
    for name, embeds in (("image_embeds", image_embeds), ("text_embeds", text_embeds)):
        lengths = embeds.detach().float().norm(dim=-1)
        if not torch.allclose(lengths, torch.ones_like(lengths), atol=0.02):  # bf16 rounds
            raise ValueError(
                f"{name} has rows of length {lengths.min():.3g} to {lengths.max():.3g}, expected "
                "1: divide each row by its norm first"
            )


def _require_same(same: Tensor, batch: int) -> None:
    if same.dtype != torch.bool:
        raise TypeError(f"same has dtype {same.dtype}, expected torch.bool with True = a match")
    if same.shape != (batch, batch):
        raise ValueError(f"same has shape {tuple(same.shape)}, expected ({batch}, {batch})")
    if same.device.type == "cpu" and not same.diagonal().all():
        raise ValueError("same says that some image does not match its own text (its diagonal)")
