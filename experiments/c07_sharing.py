"""Claim C07: sharing W^Q, W^K, W^V across layers cuts parameters.

How many parameters sharing saves is counted at BERT-Base's size: attention shared (the claim, and
with it W^O), everything shared (ALBERT).

What it costs is measured where training takes half a minute: masked words of the shapes world's
captions, as in `bert_tasks` ("always [MASK]", true pairs, no next-sentence task). Four encoders of
four steps and one of a single layer, all with the same width, data, steps and rate:

- "none", "attention", "all": what `AlbertModel` shares;
- "one layer": the parameters of "all" without repeating them, as a control.

`accuracy`: share of held-out hidden words that are filled rightly, after 400 steps.

Verdict: "reproduced" if sharing attention leaves fewer parameters, and loses less than two points
of accuracy against "none", in the mean over seeds; otherwise "partly". Nothing here is timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bert_tasks import MASK_ONLY, World, hide, pairs_of, world
from zoo_lessons.datasets.masking import IGNORED
from zoo_lessons.models.albert import AlbertConfig, AlbertModel
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import fit, seed_everything

SHARINGS = ("none", "attention", "all")
WIDTH, LAYERS = 64, 4
STEPS, BATCH, RATE = 400, 32, 3e-3
SEEDS = range(3)


@dataclass
class Holes:
    """Captions with hidden words."""

    input_ids: Tensor  # (pairs, length)
    attention_mask: Tensor
    labels: Tensor  # the hidden words, `IGNORED` elsewhere


class Filler(nn.Module):
    """An ALBERT that scores every word for each token."""

    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.encoder = AlbertModel(config)
        self.scores = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, length) twice -> (batch, length, vocab_size)."""
        return self.scores(self.encoder(input_ids, attention_mask).last_hidden_state)


def config(vocab_size: int, name: str) -> AlbertConfig:
    """One of `SHARINGS`, or "one layer"."""
    shared = AlbertConfig(
        vocab_size=vocab_size,
        d_embedding=WIDTH,
        d_model=WIDTH,
        num_layers=LAYERS,
        num_heads=4,
        d_ff=4 * WIDTH,
        max_length=64,
        sharing="none" if name == "one layer" else name,
    )
    return replace(shared, num_layers=1) if name == "one layer" else shared


def holes(data: World, split: str, rows: Any, generator: torch.Generator) -> Holes:
    pairs = pairs_of(data, split, 7, 0.0).rows(rows)
    masked = hide(data, pairs.input_ids, generator, MASK_ONLY)
    return Holes(masked.input_ids, pairs.attention_mask, masked.labels)


def train(data: World, name: str, seed: int, *, steps: int = STEPS) -> Filler:
    seed_everything(seed)
    model = Filler(config(data.vocab_size, name))
    pairs = pairs_of(data, "train", seed, 0.0)
    generator = torch.Generator().manual_seed(seed)

    def loss(model: nn.Module, step: Tensor) -> Tensor:
        rows = pairs.rows(torch.randint(len(pairs.input_ids), (BATCH,), generator=generator))
        masked = hide(data, rows.input_ids, generator, MASK_ONLY)
        logits = model(masked.input_ids, rows.attention_mask)
        return F.cross_entropy(logits.flatten(0, 1), masked.labels.flatten(), ignore_index=IGNORED)

    fit(
        model,
        lambda step: torch.tensor(step),
        loss,
        steps=steps,
        lr=RATE,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def accuracy(model: Filler, held_out: Holes) -> float:
    guesses = model(held_out.input_ids, held_out.attention_mask).argmax(dim=-1)
    hidden = held_out.labels != IGNORED
    return round((guesses == held_out.labels)[hidden].double().mean().item(), 4)


def base_sizes() -> dict[str, int]:
    """Parameters at BERT-Base's size, with embeddings as wide; ALBERT-base narrows them."""
    bert = AlbertConfig(
        vocab_size=30522, d_embedding=768, d_model=768, num_layers=12, num_heads=12, d_ff=3072
    )
    sizes = {name: replace(bert, sharing=name) for name in SHARINGS}
    sizes["ALBERT-base"] = AlbertConfig.base()
    with torch.device("meta"):
        return {name: parameters(AlbertModel(each)) for name, each in sizes.items()}


def parameters(model: nn.Module) -> int:
    """Each counted once, however often it is used."""
    return sum(p.numel() for p in model.parameters())


def verdict(figures: dict[str, Any]) -> Verdict:
    base, found = figures["base"], figures["accuracy"]
    mean = {name: sum(row) / len(row) for name, row in found.items()}
    saved = 1 - base["attention"] / base["none"]
    lost = 100 * (mean["none"] - mean["attention"])
    fine = saved > 0 and lost < 2
    return Verdict(
        "reproduced" if fine else "partly",
        f"at BERT-Base's size, sharing attention leaves {base['attention'] / 1e6:.0f} M of "
        f"{base['none'] / 1e6:.0f} M parameters ({saved:.0%} fewer), sharing all "
        f"{base['all'] / 1e6:.0f} M; small encoders fill {mean['none']:.3f} of hidden words "
        f"unshared, "
        f"{mean['attention']:.3f} with shared attention, {mean['all']:.3f} with all shared, "
        f"{mean['one layer']:.3f} with one layer",
        "Sharing cuts parameters, not computation. The article's own code shares nothing between "
        "layers: it makes q, k and v of one layer in one matrix product, which is fusing.",
        "17#7-·-Claim-C07:-sharing-across-layers",
    )


@experiment(
    "c07_sharing",
    claims=["C07"],
    lesson="17",
    uses=[
        "experiments.bert_tasks",
        "zoo_lessons.datasets.masking",
        "zoo_lessons.models.albert",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def c07_sharing() -> dict[str, Any]:
    data = world()
    held_out = holes(data, "test", slice(600), torch.Generator().manual_seed(7))
    names = (*SHARINGS, "one layer")
    figures = {
        "steps": STEPS,
        "seeds": len(SEEDS),
        "hidden_words": int((held_out.labels != IGNORED).sum()),
        "layers": LAYERS,
        "d_model": WIDTH,
        "base": base_sizes(),
        "parameters": {name: parameters(Filler(config(data.vocab_size, name))) for name in names},
        "accuracy": {
            name: [accuracy(train(data, name, seed), held_out) for seed in SEEDS] for name in names
        },
    }
    return {"figures": figures, "verdicts": {"C07": verdict(figures)}}
