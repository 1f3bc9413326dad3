"""What a key-value cache saves: the time of one more token, with and without, over the length.

A GPT with random weights (time does not depend on them) has read n - 1 tokens and gets one more.
Without a cache it reads all n again; with a cache, only the new one. Both are timed side by side.
The cache's own memory is counted, not measured: `KeyValueCache.nbytes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

LENGTHS = [16, 32, 64, 128, 256, 512]
ROUNDS = 11
WITHOUT, WITH = "without cache", "with cache"
CONFIG = GPTConfig(
    vocab_size=1000, d_model=256, num_layers=4, num_heads=4, d_ff=1024, max_length=512, dropout=0.0
)


def ways(model: GPT, input_ids: Tensor) -> tuple[dict[str, Callable[[], Tensor]], KeyValueCache]:
    """Two functions that give the logits after the last of `input_ids` (1, n), and the cache.

    The cache holds the first n - 1 tokens, and does so again at each call.
    """
    cache = KeyValueCache(model.config.num_layers)
    with torch.no_grad():
        model(input_ids[:, :-1], cache=cache)
    stored = [(layer.keys, layer.values) for layer in cache]

    @torch.no_grad()
    def recompute() -> Tensor:
        return model(input_ids).logits[:, -1]

    @torch.no_grad()
    def one_step() -> Tensor:
        for layer, (keys, values) in zip(cache, stored, strict=True):
            layer.keys, layer.values = keys, values
        return model(input_ids[:, -1:], cache=cache).logits[:, -1]

    return {WITHOUT: recompute, WITH: one_step}, cache


def summary(comparisons: list[Comparison], cache_bytes: list[int]) -> dict[str, Any]:
    """Times, how they grow, and how many times longer a token takes without the cache."""
    figures: dict[str, Any] = {
        "lengths": LENGTHS,
        "times_slower_without": [round(1 / c.ratio(WITH), 2) for c in comparisons],
        "interval": [[round(1 / x, 2) for x in c.interval(WITH)[::-1]] for c in comparisons],
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "seconds": {},
        "exponent": {},
        "cache_bytes": cache_bytes,
    }
    for name in (WITHOUT, WITH):
        seconds = [c.median(name) for c in comparisons]
        exponent, interval = fit_exponent(LENGTHS, seconds)
        figures["seconds"][name] = seconds
        figures["exponent"][name] = {"value": exponent, "interval": list(interval)}
    return figures


@experiment(
    "kv_cache",
    lesson="06",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.cache",
        "zoo_lessons.models.gpt",
        "zoo_lessons.training.random_state",
    ],
)
def kv_cache() -> dict[str, Any]:
    seed_everything(0)
    model = GPT(CONFIG).eval()
    comparisons, cache_bytes = [], []
    for length in LENGTHS:
        input_ids = torch.randint(CONFIG.vocab_size, (1, length))
        functions, cache = ways(model, input_ids)
        comparisons.append(compare(functions, rounds=ROUNDS))
        cache_bytes.append(cache.nbytes)
    about = {
        "d_model": CONFIG.d_model,
        "num_layers": CONFIG.num_layers,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return {"figures": {**about, **summary(comparisons, cache_bytes)}}
