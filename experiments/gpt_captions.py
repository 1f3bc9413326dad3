"""A tiny GPT on the captions of the shapes world, as lesson 06 trains it, with several seeds.

Trained on 10,000 captions and judged on captions that it has not seen: of the same kind (test), and
with a colour and a shape that no training caption puts together (composition). The baselines are
tuned n-grams on the same tokens. `valid` is the share of 500 sampled texts (temperature 1) that the
captions' grammar accepts.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.datasets.ngrams import NGram
from zoo_lessons.datasets.shapes import translation_pairs
from zoo_lessons.datasets.shapes.grammar import CaptionGrammar
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, Encoded, encode_batch, word_tokenizer
from zoo_lessons.generation import generate
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.schedules import warmup_cosine

SIZES = {"train": 10_000, "validation": 1000, "test": 1000, "composition": 1000}
ORDERS = (1, 2, 3, 4, 6, 8)
STEPS, WARMUP, BATCH, RATE = 300, 30, 64, 3e-3
SEEDS = range(5)
SAMPLES, LONGEST = 500, 24
GRAMMAR = CaptionGrammar()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean loss per token, in nats; batch: ids and mask (texts, length)."""
    input_ids, attention_mask = batch
    real = attention_mask[:, 1:].bool()
    logits = model(input_ids, attention_mask).logits[:, :-1]
    return F.cross_entropy(logits[real], input_ids[:, 1:][real])


def train(captions: Encoded, vocab_size: int, seed: int, *, steps: int = STEPS) -> GPT:
    """The model of the lesson."""
    seed_everything(seed)
    config = GPTConfig(
        vocab_size, d_model=64, num_layers=2, num_heads=4, d_ff=256, max_length=32, dropout=0.0
    )
    model = GPT(config)
    chooser = torch.Generator().manual_seed(seed)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(captions.input_ids), (BATCH,), generator=chooser)
        return captions.input_ids[rows], captions.attention_mask[rows]

    schedule = partial(warmup_cosine, warmup_steps=WARMUP, total_steps=steps)
    fit(model, batch, loss, steps=steps, lr=RATE, schedule=schedule, device="cpu", progress=False)
    return model.eval()


def lists(captions: Encoded) -> list[list[int]]:
    """Ids without padding and without [BOS], which an n-gram model supplies itself."""
    pairs = zip(captions.input_ids, captions.attention_mask, strict=True)
    return [ids[mask.bool()].tolist()[1:] for ids, mask in pairs]


def valid(tokenizer: Tokenizer, rows: list[list[int]]) -> float:
    """The share of texts, ids after [BOS], that are captions."""
    right = 0
    for row in rows:
        if EOS_ID in row:
            words = [tokenizer.id_to_token(token) for token in row[: row.index(EOS_ID)]]
            right += GRAMMAR.accepts(words)
    return right / len(rows)


def sample_ngram(model: NGram, generator: torch.Generator) -> list[list[int]]:
    """`SAMPLES` texts, drawn token by token."""
    rows = []
    for _ in range(SAMPLES):
        row: list[int] = []
        while len(row) < LONGEST and EOS_ID not in row:
            probability = model.log_probabilities(row).exp()
            row.append(torch.multinomial(probability, 1, generator=generator).item())
        rows.append(row)
    return rows


def perplexities(model: GPT, captions: dict[str, Encoded]) -> dict[str, float]:
    with torch.no_grad():
        found = {split: math.exp(loss(model, captions[split]).item()) for split in captions}
    return {split: round(value, 3) for split, value in found.items()}


@experiment(
    "gpt_captions",
    lesson="06",
    uses=[
        "zoo_lessons.datasets.ngrams",
        "zoo_lessons.datasets.shapes.captions",
        "zoo_lessons.datasets.shapes.grammar",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.generation",
        "zoo_lessons.models.gpt",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
        "zoo_lessons.training.schedules",
    ],
)
def gpt_captions() -> dict[str, Any]:
    texts = {
        split: [english for english, _ in translation_pairs(split, size)]
        for split, size in SIZES.items()
    }
    tokenizer = word_tokenizer(texts["train"])
    captions = {
        split: encode_batch(tokenizer, part, add_bos=True, add_eos=True)
        for split, part in texts.items()
    }
    judged = {split: captions[split] for split in ("test", "composition")}
    size = tokenizer.get_vocab_size()

    ngrams = {}
    for order in ORDERS:
        model = NGram(order, size).fit(lists(captions["train"]), lists(captions["validation"]))
        rows = sample_ngram(model, torch.Generator().manual_seed(0))
        ngrams[f"{order}-gram"] = {
            **{name: round(model.perplexity(lists(each)), 3) for name, each in judged.items()},
            "valid": valid(tokenizer, rows),
        }
    gpt: dict[str, list[float]] = {"test": [], "composition": [], "valid": []}
    for seed in SEEDS:
        trained = train(captions["train"], size, seed)
        start = torch.full((SAMPLES, 1), BOS_ID)
        chance = torch.Generator().manual_seed(seed)
        ids = generate(
            trained,
            start,
            max_new_tokens=LONGEST,
            eos_token_id=EOS_ID,
            temperature=1.0,
            generator=chance,
        )
        for name, value in perplexities(trained, judged).items():
            gpt[name].append(value)
        gpt["valid"].append(valid(tokenizer, ids[:, 1:].tolist()))
    figures = {
        "sizes": SIZES,
        "vocabulary": size,
        "steps": STEPS,
        "seeds": len(SEEDS),
        "samples": SAMPLES,
        "parameters": sum(p.numel() for p in trained.parameters()),
        "ngrams": ngrams,
        "gpt": gpt,
    }
    return {"figures": figures}
