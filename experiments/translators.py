"""Two translators, English to French and French to English: lesson 18's checkpoints.

Both are Transformers with two blocks on each side, trained on the sentence pairs of
`datasets.everyday` with teacher forcing, each for `STEPS` batches. They share one word-level
vocabulary. The data gives several wordings for each meaning, so the likeliest translation is one of
many right ones, and sampling finds others.

The saved models are loaded again and judged on `JUDGED` sentences of the test split: events and
states meet things that they meet in no training sentence. 14 short ones without a thing ("it is
broken") are in the training split, too:

- "exact": the share of greedy translations that are, word by word, the one reference. It has a
  ceiling well below 1, as the reference is one of several right wordings;
- "chrF": how many runs of one to six characters translation and reference share (Popović 2015,
  "chrF", WMT), F with recall counted twice, in percent, the mean over sentences. It forgives
  another wording a little;
- "there and back": the share of English sentences that return word by word, greedily and sampled
  at temperature 1, and the share of their words that return. The rest was put in other words,
  or was lost.

Nothing here is timed: the figures are the same on every run of one machine. It takes about ten
minutes of one core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from zoo_lessons.checkpoints import save_trained
from zoo_lessons.datasets.everyday import sentence_pairs
from zoo_lessons.datasets.words import PAD_ID, encode_batch, word_tokenizer
from zoo_lessons.models.transformer import Transformer, TransformerConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import History, fit, seed_everything
from zoo_lessons.translation import Translator, back_translate

DIRECTIONS = ("english_to_french", "french_to_english")
TRAINED, JUDGED, SAMPLES = 80_000, 500, 6
STEPS, BATCH, RATE = 1800, 64, 2e-3


def tokenizer_for_everyday() -> Tokenizer:
    """Every English and French word of the generator; its invented words stay unknown."""
    pairs = sentence_pairs("train", 20_000, seed=1, invented=0.0)
    return word_tokenizer([text for pair in pairs for text in (pair.english, pair.french)])


def config(tokenizer: Tokenizer) -> TransformerConfig:
    """About a million parameters, one vocabulary for both languages."""
    return TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=128,
        num_layers=2,
        num_heads=4,
        d_ff=512,
        dropout=0.1,
        norm="pre",
        max_length=64,
    )


def train(
    sources: Sequence[str],
    targets: Sequence[str],
    tokenizer: Tokenizer,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
    seed: int = 0,
) -> tuple[Transformer, History]:
    """A model that writes the target of each source."""
    seed_everything(seed)
    model = Transformer(config(tokenizer))
    draw = torch.Generator().manual_seed(seed)
    rows_of_like_length = _buckets([len(text.split()) for text in sources], batch)

    def some(_step: int):
        bucket = int(torch.randint(len(rows_of_like_length), (), generator=draw))
        rows = rows_of_like_length[bucket]
        source = encode_batch(tokenizer, [sources[row] for row in rows], add_eos=True)
        target = encode_batch(tokenizer, [targets[row] for row in rows], add_bos=True, add_eos=True)
        return {"source": source, "target": target.input_ids}

    def loss(model: Transformer, batch) -> torch.Tensor:
        target = batch["target"]
        logits = model(*batch["source"], target[:, :-1]).logits  # (batch, length - 1, words)
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD_ID)

    history = fit(
        model,
        some,
        loss,
        steps=steps,
        lr=RATE,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval(), history


def _buckets(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of rows whose texts are about equally long, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def chrf(found: str, reference: str, longest: int = 6, beta: float = 2.0) -> float:
    """Character n-gram F of a translation, 0 to 1; spaces do not count."""
    found, reference = found.replace(" ", ""), reference.replace(" ", "")
    precisions, recalls = [], []
    for n in range(1, min(longest, len(reference), len(found)) + 1):
        ours, theirs = (
            Counter(text[i : i + n] for i in range(len(text) - n + 1))
            for text in (found, reference)
        )
        shared = sum((ours & theirs).values())
        precisions.append(shared / sum(ours.values()))
        recalls.append(shared / sum(theirs.values()))
    if not precisions:
        return 0.0
    precision, recall = (sum(each) / len(each) for each in (precisions, recalls))
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def words_kept(before: str, after: str) -> float:
    """The share of a sentence's words that another sentence has too."""
    kept = Counter(before.split()) & Counter(after.split())
    return sum(kept.values()) / len(before.split())


def judge(translator: Translator, sources: list[str], references: list[str]) -> dict[str, float]:
    found = translator.translate(sources)
    return {
        "exact": mean([one == other for one, other in zip(found, references, strict=True)]),
        "chrF": mean([chrf(one, other) for one, other in zip(found, references, strict=True)]),
    }


def smoothed(loss: Sequence[float], every: int = 50) -> list[float]:
    """The mean of each fifty steps."""
    return [round(value, 4) for value in torch.tensor(loss).view(-1, every).mean(dim=1).tolist()]


def mean(values: Sequence[float]) -> float:
    return round(float(sum(values) / len(values)), 4)


@experiment(
    "translators",
    lesson="18",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.everyday",
        "zoo_lessons.datasets.words",
        "zoo_lessons.models.transformer",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
        "zoo_lessons.translation",
    ],
)
def translators() -> dict[str, Any]:
    tokenizer = tokenizer_for_everyday()
    pairs = sentence_pairs("train", TRAINED)
    english, french = ([pair.english for pair in pairs], [pair.french for pair in pairs])
    tests = sentence_pairs("test", JUDGED, invented=0.0)
    sources = {
        "english_to_french": ([pair.english for pair in tests], [pair.french for pair in tests])
    }
    sources["french_to_english"] = sources["english_to_french"][::-1]
    directions: dict[str, Any] = {}
    for name, (source, target) in zip(
        DIRECTIONS, ((english, french), (french, english)), strict=True
    ):
        model, history = train(source, target, tokenizer)
        saved = save_trained(name, model, tokenizer)
        directions[name] = {
            "checkpoint": saved,
            "curve": smoothed(history.loss),
            **judge(Translator.load(name), *sources[name]),
        }
    there, back = (Translator.load(name) for name in DIRECTIONS)
    originals = sources["english_to_french"][0]
    chance = torch.Generator().manual_seed(0)
    ways = {
        "greedy": back_translate(there, back, originals, temperature=0.0),
        "sampled": back_translate(there, back, originals, temperature=1.0, generator=chance),
    }
    trips = {
        way: {
            "unchanged": mean([a == b for a, b in zip(originals, found, strict=True)]),
            "words kept": mean([words_kept(a, b) for a, b in zip(originals, found, strict=True)]),
        }
        for way, found in ways.items()
    }
    figures = {
        "parameters": sum(p.numel() for p in there.model.parameters()),
        "vocabulary": tokenizer.get_vocab_size(),
        "sentences": TRAINED,
        "steps": STEPS,
        "batch": BATCH,
        "judged": JUDGED,
        "directions": directions,
        "there and back": trips,
        "examples": [
            [originals[row], there.translate([originals[row]])[0], ways["sampled"][row]]
            for row in range(SAMPLES)
        ],
    }
    return {"figures": figures}
