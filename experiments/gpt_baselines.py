"""The checkpoint of `gpt_prose` against models that only count, on the same held-out text.

n-grams with interpolated modified Kneser-Ney smoothing, discounts tuned on the validation
documents, count the same training blocks and predict the same tokens of the test documents. The
interval of the difference to the best of them comes from a bootstrap over the test blocks. A
mixture of the two, weighted on the validation documents, shows whether each knows what the other
does not.

`by_place` splits the loss by the place in the block: a model that uses a long context gets better
along the block, an n-gram does not. `tokenizers` measures one trigram in several vocabularies: its
perplexity per token changes with the size of a token, so it compares models in one vocabulary only.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.gpt_prose import LENGTH, amounts, per_amount
from zoo_lessons.checkpoints import load_trained, trained_tokenizer
from zoo_lessons.datasets.ngrams import NGram
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.subwords import encode_blocks, train_byte_bpe
from zoo_lessons.records import experiment, load_record

ORDERS = (1, 2, 3, 4, 5)
PLACES = (1, 4, 16, 48, LENGTH)  # bounds of the places in a block
VOCABULARIES = (300, 2048, 8000)
WEIGHTS = tuple(step / 20 for step in range(21))
RESAMPLES = 2000


@torch.no_grad()
def model_losses(model: nn.Module, blocks: Tensor) -> Tensor:
    """Loss of each predicted token in nats, (blocks, length - 1)."""
    parts = []
    for part in blocks.split(32):
        logits = model(part).logits[:, :-1].transpose(1, 2)  # (batch, vocab_size, length - 1)
        parts.append(F.cross_entropy(logits, part[:, 1:], reduction="none"))
    return torch.cat(parts).double()


def tuned(order: int, vocab_size: int, blocks: dict[str, Tensor]) -> NGram:
    """An n-gram model of the training blocks, its discounts tuned on the validation blocks."""
    return NGram(order, vocab_size).fit(blocks["train"], blocks["validation"])


def ngram_losses(model: NGram, blocks: Tensor) -> Tensor:
    """The same for an n-gram model."""
    return -torch.stack(model.token_log_probabilities(blocks))[:, 1:]


def mixed(weight: float, first: Tensor, second: Tensor) -> Tensor:
    """Losses of `weight` times the first model's probability plus the rest of the second's."""
    return -(weight * (-first).exp() + (1 - weight) * (-second).exp()).log()


def difference(ours: Tensor, theirs: Tensor) -> list[float]:
    """Mean of theirs - ours in nats per token, and its 95 % bootstrap interval over the blocks."""
    gaps = (theirs - ours).mean(dim=1).numpy()
    rows = np.random.default_rng(0).integers(len(gaps), size=(RESAMPLES, len(gaps)))
    low, high = np.quantile(gaps[rows].mean(axis=1), [0.025, 0.975])
    return [round(float(value), 4) for value in (gaps.mean(), low, high)]


def by_place(losses: Tensor) -> list[float]:
    """Perplexity of the tokens at `PLACES`."""
    return [
        round(math.exp(losses[:, low - 1 : high - 1].mean().item()), 2)
        for low, high in pairwise(PLACES)
    ]


@experiment(
    "gpt_baselines",
    lesson="06",
    uses=[
        "experiments.gpt_prose",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.ngrams",
        "zoo_lessons.datasets.prose",
        "zoo_lessons.datasets.subwords",
    ],
)
def gpt_baselines() -> dict[str, Any]:
    model, tokenizer = load_trained("gpt_prose"), trained_tokenizer("gpt_prose")
    texts = {split: paragraphs("all", split) for split in ("train", "validation", "test")}
    blocks = {split: encode_blocks(tokenizer, part, LENGTH) for split, part in texts.items()}
    size, counted = tokenizer.get_vocab_size(), amounts(tokenizer, blocks["test"])

    ngrams = {f"{order}-gram": tuned(order, size, blocks) for order in ORDERS}
    losses = {"GPT": model_losses(model, blocks["test"])}
    for name, ngram in ngrams.items():
        losses[name] = ngram_losses(ngram, blocks["test"])
    best = min(ngrams, key=lambda name: losses[name].mean())
    gain = difference(losses["GPT"], losses[best])

    held_out = (
        model_losses(model, blocks["validation"]),
        ngram_losses(ngrams[best], blocks["validation"]),
    )
    weight = min(WEIGHTS, key=lambda weight: mixed(weight, *held_out).mean())
    losses["mixture"] = mixed(weight, losses["GPT"], losses[best])
    models = {name: per_amount(each.mean().item(), counted) for name, each in losses.items()}
    models = {"uniform": per_amount(math.log(size), counted), **models}

    vocabularies = []
    for wanted in VOCABULARIES:
        other = train_byte_bpe(texts["train"], wanted)
        cut = {split: encode_blocks(other, part, LENGTH) for split, part in texts.items()}
        trigram = tuned(3, other.get_vocab_size(), cut)
        found = ngram_losses(trigram, cut["test"]).mean().item()
        vocabularies.append({"size": wanted, **per_amount(found, amounts(other, cut["test"]))})
    figures = {
        "checkpoint_sha256": load_record("gpt_prose")["figures"]["checkpoint"]["sha256"],
        "test": counted,
        "models": models,
        "best_ngram": best,
        "gain_over_best_ngram": gain,
        "gain_of_mixture": difference(losses["mixture"], losses[best]),
        "weight_of_gpt": weight,
        "places": list(PLACES),
        "by_place": {name: by_place(losses[name]) for name in ("GPT", "2-gram", best)},
        "tokenizers": vocabularies,
    }
    return {"figures": figures}
