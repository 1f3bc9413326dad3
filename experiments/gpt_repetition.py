"""What decoding does to a text: how much it repeats itself, and how likely it is to the model.

The checkpoint of `gpt_prose` continues the beginnings of held-out paragraphs by 64 tokens, once for
each way of decoding. Three figures for each continuation:

- repetition: the share of its runs of four tokens that have occurred in it before;
- seen: the share of its runs of four tokens that occur in the training text;
- nats: its mean loss per token under the model itself.

The true continuations are measured in the same way. Means over the prompts, with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.checkpoints import load_trained, trained_tokenizer
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.subwords import encode_blocks
from zoo_lessons.generation import beam_search, generate
from zoo_lessons.models.gpt import GPT
from zoo_lessons.records import experiment, load_record

PROMPTS, PROMPT, NEW, RUN = 48, 16, 64, 4
HUMAN = "true text"


def decoders() -> dict[str, Callable[[GPT, Tensor], Tensor]]:
    """Ways to continue prompts (batch, length), by name."""

    def beams(model: GPT, prompts: Tensor) -> Tensor:
        found = [
            beam_search(model, prompt[None], num_beams=4, max_new_tokens=NEW)[0].ids
            for prompt in prompts
        ]
        return torch.stack(found)

    def sampled(model: GPT, prompts: Tensor, **options: Any) -> Tensor:
        chance = torch.Generator().manual_seed(0)
        return generate(model, prompts, max_new_tokens=NEW, generator=chance, **options)

    return {
        "greedy": partial(sampled, temperature=0.0),
        "beam search (4)": beams,
        "temperature 0.5": partial(sampled, temperature=0.5),
        "top-k (20)": partial(sampled, temperature=1.0, top_k=20),
        "top-p (0.9)": partial(sampled, temperature=1.0, top_p=0.9),
        "temperature 1": partial(sampled, temperature=1.0),
        "temperature 1.5": partial(sampled, temperature=1.5),
    }


def runs(ids: list[int]) -> list[tuple[int, ...]]:
    """The overlapping runs of `RUN` tokens."""
    return list(zip(*(ids[start:] for start in range(RUN)), strict=False))


def repetition(ids: list[int]) -> float:
    """The share of runs that have occurred before: 0 for none, near 1 for an endless loop."""
    found = runs(ids)
    return 1 - len(set(found)) / len(found)


@torch.no_grad()
def own_loss(model: GPT, ids: Tensor) -> list[float]:
    """Mean loss of each row's last `NEW` tokens, in nats; ids (batch, length)."""
    logits = model(ids).logits[:, -NEW - 1 : -1]  # (batch, NEW, vocab_size)
    losses = F.cross_entropy(logits.transpose(1, 2), ids[:, -NEW:], reduction="none")
    return losses.mean(dim=1).tolist()


def measure(
    model: GPT, blocks: Tensor, seen: set[tuple[int, ...]]
) -> dict[str, dict[str, list[float]]]:
    """{way: {figure: [mean, low, high]}}; blocks (texts, PROMPT + NEW) are true texts."""
    continued = {HUMAN: blocks}
    for name, decode in decoders().items():
        continued[name] = decode(model, blocks[:, :PROMPT])
    figures = {}
    for name, ids in continued.items():
        new = ids[:, -NEW:].tolist()
        values = {
            "repetition": [repetition(row) for row in new],
            "seen": [sum(run in seen for run in runs(row)) / len(runs(row)) for row in new],
            "nats": own_loss(model, ids),
        }
        figures[name] = {
            key: [round(number, 4) for number in mean_interval(each)]
            for key, each in values.items()
        }
    return figures


@experiment(
    "gpt_repetition",
    lesson="06",
    uses=[
        "experiments.gpt_prose",
        "experiments.intervals",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.prose",
        "zoo_lessons.datasets.subwords",
        "zoo_lessons.generation",
        "zoo_lessons.models.gpt",
    ],
)
def gpt_repetition() -> dict[str, Any]:
    model, tokenizer = load_trained("gpt_prose"), trained_tokenizer("gpt_prose")
    train, test = (
        encode_blocks(tokenizer, paragraphs("all", split), PROMPT + NEW)
        for split in ("train", "test")
    )
    seen = set(runs(train.flatten().tolist()))
    chosen = test[torch.linspace(0, len(test) - 1, PROMPTS).long()]  # spread over the documents
    about = {
        "checkpoint_sha256": load_record("gpt_prose")["figures"]["checkpoint"]["sha256"],
        "prompts": PROMPTS,
        "prompt_tokens": PROMPT,
        "new_tokens": NEW,
        "run": RUN,
    }
    return {"figures": {**about, "ways": measure(model, chosen, seen)}}
