"""Classify and search with two towers that meet in one space, and no training of a classifier.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(2021), section 3.1: each class becomes a text, and the class vectors are the texts' embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.datasets.words import encode_batch
from zoo_lessons.models.clip import CLIP

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@torch.no_grad()
def text_embeddings(
    model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 256
) -> Tensor:
    """Embeddings of captions, with [BOS] and [EOS]: (texts, projection_dim), rows of length 1."""
    parts = []
    for start in range(0, len(texts), batch_size):
        part = list(texts[start : start + batch_size])
        parts.append(
            model.embed_texts(encode_batch(tokenizer, part, add_bos=True, add_eos=True).input_ids)
        )
    return torch.cat(parts)


@torch.no_grad()
def image_embeddings(model: CLIP, pixel_values: Tensor, batch_size: int = 256) -> Tensor:
    """Embeddings of images (images, projection_dim), rows of length 1."""
    return torch.cat([model.embed_images(part) for part in pixel_values.split(batch_size)])


def class_vectors(model: CLIP, tokenizer: Tokenizer, prompts: Sequence[Sequence[str]]) -> Tensor:
    """One vector for each class: the mean of its prompts' embeddings, scaled to length 1.

    Several prompts for one class are a prompt ensemble (section 3.1.4). It costs nothing when
    images are classified, since a class has one vector all the same.

    Args:
        model, tokenizer: the text tower and what it reads.
        prompts: for each class one or more texts, as many for each class.

    Returns:
        (classes, projection_dim), rows of length 1.

    Raises:
        ValueError: no prompts, or classes with different numbers of them.
    """
    counts = {len(texts) for texts in prompts}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"every class needs the same number of prompts, at least 1, got {counts}")
    embeds = text_embeddings(model, tokenizer, [text for texts in prompts for text in texts])
    return F.normalize(embeds.unflatten(0, (len(prompts), -1)).mean(dim=1), dim=-1)


def accuracy(image_embeds: Tensor, classes: Tensor, labels: Tensor) -> float:
    """Share of images whose nearest class vector is their label's."""
    return ((image_embeds @ classes.T).argmax(dim=-1) == labels).float().mean().item()
