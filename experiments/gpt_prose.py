"""A small GPT, trained on the prose of the Python documentation: lesson 06's checkpoint.

GPT-2's architecture with about one million parameters reads the docstrings and the reference
(`datasets.prose`, all of it) in blocks of 128 tokens, in a byte-level vocabulary of 2048 tokens
trained on the same text. The checkpoint is saved in half precision, loaded again, and judged on the
held-out documents, which share no ten consecutive words with the training text.

A token is no fixed amount of text, so its perplexity depends on the tokenizer. The figures give the
same loss per token, per word and per byte; `bits_per_byte` compares across tokenizers.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.subwords import END_OF_TEXT_ID, encode_blocks, train_byte_bpe
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import History, fit, seed_everything
from zoo_lessons.training.schedules import warmup_cosine

NAME = "gpt_prose"
VOCABULARY, LENGTH = 2048, 128
BATCH, STEPS, WARMUP, RATE, DECAY = 8, 2400, 100, 3e-3, 0.1


def config(vocab_size: int = VOCABULARY) -> GPTConfig:
    """GPT-2 in small: 1.07 M parameters."""
    return GPTConfig(
        vocab_size=vocab_size,
        d_model=128,
        num_layers=4,
        num_heads=4,
        d_ff=512,
        max_length=LENGTH,
        dropout=0.0,
    )


def loss(model: nn.Module, blocks: Tensor) -> Tensor:
    """Mean loss of the next token, in nats; blocks (batch, length)."""
    logits = model(blocks).logits[:, :-1]  # (batch, length - 1, vocab_size)
    return F.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten())


def train(blocks: Tensor, *, steps: int = STEPS, seed: int = 0) -> tuple[GPT, History]:
    """A model trained on random blocks (blocks, length), and its history."""
    seed_everything(seed)
    model = GPT(config())
    chooser = torch.Generator().manual_seed(seed)

    def batch(step: int) -> Tensor:
        return blocks[torch.randint(len(blocks), (BATCH,), generator=chooser)]

    schedule = partial(warmup_cosine, warmup_steps=WARMUP * steps // STEPS, total_steps=steps)
    history = fit(
        model,
        batch,
        loss,
        steps=steps,
        lr=RATE,
        weight_decay=DECAY,
        schedule=schedule,
        device="cpu",
        progress=False,
    )
    return model.eval(), history


@torch.no_grad()
def mean_loss(model: nn.Module, blocks: Tensor) -> float:
    """Mean loss per predicted token, in nats."""
    total = sum(loss(model, part).item() * len(part) for part in blocks.split(32))
    return total / len(blocks)


def amounts(tokenizer: Tokenizer, blocks: Tensor) -> dict[str, int]:
    """Tokens, words and bytes that are predicted: all but the first token of each block.

    The end of a paragraph counts as one byte. A word is a token that begins with a space or a
    paragraph.
    """
    ids = torch.arange(tokenizer.get_vocab_size())
    tokens = [tokenizer.id_to_token(index) for index in ids.tolist()]
    # In the byte-level alphabet each byte is one character, and a space is Ġ.
    size = torch.tensor([len(token) for token in tokens])
    size[END_OF_TEXT_ID] = 1
    begins = torch.tensor([token.startswith("Ġ") for token in tokens])
    begins[END_OF_TEXT_ID] = True  # the first word of a paragraph has no space before it
    targets = blocks[:, 1:]
    return {
        "tokens": targets.numel(),
        "words": int(begins[targets].sum()),
        "bytes": int(size[targets].sum()),
    }


def per_amount(nats_per_token: float, counted: dict[str, int]) -> dict[str, float]:
    """The same loss in the units that people use."""
    nats = nats_per_token * counted["tokens"]
    return {
        "nats_per_token": round(nats_per_token, 4),
        "perplexity_per_token": round(math.exp(nats_per_token), 2),
        "perplexity_per_word": round(math.exp(nats / counted["words"]), 1),
        "bits_per_byte": round(nats / counted["bytes"] / math.log(2), 4),
    }


@experiment(
    NAME,
    lesson="06",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.prose",
        "zoo_lessons.datasets.subwords",
        "zoo_lessons.models.gpt",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
        "zoo_lessons.training.schedules",
    ],
)
def gpt_prose() -> dict[str, Any]:
    texts = {split: paragraphs("all", split) for split in ("train", "validation", "test")}
    tokenizer = train_byte_bpe(texts["train"], VOCABULARY)
    blocks = {split: encode_blocks(tokenizer, part, LENGTH) for split, part in texts.items()}
    trained, history = train(blocks["train"])

    saved = save_trained(NAME, trained, tokenizer)
    model = load_trained(NAME)
    curve = torch.tensor(history.loss).view(-1, 20).mean(dim=1)
    figures = {
        "checkpoint": saved,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": tokenizer.get_vocab_size(),
        "length": LENGTH,
        "batch": BATCH,
        "steps": STEPS,
        "words": {name: sum(len(text.split()) for text in part) for name, part in texts.items()},
        "tokens": {name: part.numel() for name, part in blocks.items()},
        "curve": {  # means of twenty steps
            "step": list(range(10, STEPS, 20)),
            "loss": [round(value, 4) for value in curve.tolist()],
        },
    }
    for split in ("validation", "test"):
        found = mean_loss(model, blocks[split])
        figures[split] = per_amount(found, amounts(tokenizer, blocks[split]))
    return {"figures": figures}
