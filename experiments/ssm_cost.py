"""What a state space costs as the text grows: reading it, and writing one more token.

Mamba, a GPT of about the same size, and a hybrid of the two, all with random weights (time does not
depend on them). Reading: one forward pass over the whole text, timed side by side; how time and
memory grow is fitted as a power of the length. Attention is PyTorch's fused one, which makes no
matrix of scores; but GPT gives it a causal mask, which is a matrix, too. Mamba scans 256 tokens at
a time, so its memory begins with what such a chunk needs. Writing: one more token after n. What a
model must keep for that is counted.

The scan alone, forward and backward: step by step in place, which is what a CPU gets, and in
rounds, which is what a GPU gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent, peak_memory
from zoo_lessons.layers.cache import KeyValueCache, LayerCache
from zoo_lessons.layers.ssm import linear_scan, scan_loop
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.models.mamba import Mamba, MambaCache, MambaConfig
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

LENGTHS = [256, 512, 1024, 2048, 4096]
ROUNDS, ROUNDS_OF_LONG, LONG, SCAN_ROUNDS = 7, 5, 2048, 5
VOCABULARY, WIDTH, HEADS = 100, 64, 4
SCAN_SHAPE = (2, 256, 64, 16)  # (batch, length, channels, states)
NAMES = ("Mamba", "attention", "hybrid")


def models() -> dict[str, nn.Module]:
    """Two layers each: two of Mamba, two of attention, and one of each."""
    sizes = {"vocab_size": VOCABULARY, "d_model": WIDTH, "num_layers": 2, "num_heads": HEADS}
    gpt = GPTConfig(**sizes, d_ff=2 * WIDTH, max_length=max(LENGTHS) + 1, dropout=0.0)
    hybrid = MambaConfig(**sizes, d_ff=2 * WIDTH, attention_layers=(1,))
    built = (Mamba(MambaConfig(**sizes)), GPT(gpt), Mamba(hybrid))
    return {name: model.eval() for name, model in zip(NAMES, built, strict=True)}


def reader(model: nn.Module, input_ids: Tensor) -> Callable[[], Tensor]:
    """A function that reads the whole text and gives the logits after its last token."""

    @torch.no_grad()
    def read() -> Tensor:
        return model(input_ids).logits[:, -1]

    return read


def filled_cache(model: nn.Module, length: int) -> KeyValueCache | MambaCache:
    """The cache after `length` tokens of one text, with random content: time does not depend on it.

    Reading a short text first gives every part its shape; then keys and values are made as long as
    they would be.
    """
    is_gpt = isinstance(model, GPT)
    cache = KeyValueCache(model.config.num_layers) if is_gpt else model.new_cache()
    with torch.no_grad():
        model(torch.zeros(1, 1, dtype=torch.long), cache=cache)
    for layer in cache:
        if isinstance(layer, LayerCache):
            shape = (1, HEADS, length, WIDTH // HEADS)
            layer.keys, layer.values = torch.randn(shape), torch.randn(shape)
    if not is_gpt:
        cache.length = length
    return cache


def writer(model: nn.Module, cache: KeyValueCache | MambaCache) -> Callable[[], Tensor]:
    """A function that reads one more token. The cache is as before at each call."""
    kept = [(layer, dict(vars(layer))) for layer in cache]
    length, token = cache.length, torch.zeros(1, 1, dtype=torch.long)

    @torch.no_grad()
    def write() -> Tensor:
        for layer, values in kept:
            vars(layer).update(values)
        if isinstance(cache, MambaCache):
            cache.length = length
        return model(token, cache=cache).logits[:, -1]

    return write


def growth(comparisons: list[Comparison]) -> dict[str, Any]:
    """Seconds of each model at each length, ratios to the first, and exponents."""
    seconds = {name: [c.median(name) for c in comparisons] for name in NAMES}
    return {
        "seconds": seconds,
        "ratio": {name: [c.ratio(name) for c in comparisons] for name in NAMES[1:]},
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "exponent": {name: exponent(values) for name, values in seconds.items()},
    }


def exponent(values: list[float], last: int = 4) -> dict[str, Any]:
    """Fitted on the `last` lengths, where what does not grow counts least."""
    value, interval = fit_exponent(LENGTHS[-last:], values[-last:])
    return {"value": value, "interval": list(interval), "lengths": LENGTHS[-last:]}


def scans() -> dict[str, Any]:
    """The scan by itself, for training: ratios to the loop that autograd follows step by step."""
    a = torch.rand(SCAN_SHAPE).requires_grad_()
    x = torch.randn(SCAN_SHAPE).requires_grad_()
    ways = {
        "loop": lambda: scan_loop(a, x),
        "in place": lambda: linear_scan(a, x, parallel=False),
        "parallel": lambda: linear_scan(a, x, parallel=True),
    }

    def forward_and_backward(scan: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            a.grad = x.grad = None
            scan().sum().backward()

        return run

    runs = {name: forward_and_backward(scan) for name, scan in ways.items()}
    compared = compare(runs, rounds=SCAN_ROUNDS, warmup=1)
    return {
        "shape": list(SCAN_SHAPE),
        "seconds": {name: compared.median(name) for name in ways},
        "ratio": {name: compared.ratio(name) for name in ways},
        "interval": {name: list(compared.interval(name)) for name in ways},
    }


@experiment(
    "ssm_cost",
    lesson="16",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.cache",
        "zoo_lessons.layers.ssm",
        "zoo_lessons.models.gpt",
        "zoo_lessons.models.mamba",
        "zoo_lessons.training.random_state",
    ],
)
def ssm_cost() -> dict[str, Any]:
    seed_everything(0)
    built = models()
    reading, writing = [], []
    memory: dict[str, list[int]] = {name: [] for name in built}
    cache_bytes: dict[str, list[int]] = {name: [] for name in built}
    for length in LENGTHS:
        input_ids = torch.randint(VOCABULARY, (1, length))
        readers = {name: reader(model, input_ids) for name, model in built.items()}
        rounds = ROUNDS if length < LONG else ROUNDS_OF_LONG
        reading.append(compare(readers, rounds=rounds, warmup=1))
        writers = {}
        for name, model in built.items():
            memory[name].append(peak_memory(readers[name]))
            cache = filled_cache(model, length)
            cache_bytes[name].append(cache.nbytes)
            writers[name] = writer(model, cache)
        writing.append(compare(writers, rounds=ROUNDS))
    figures = {
        "lengths": LENGTHS,
        "d_model": WIDTH,
        "num_layers": 2,
        "parameters": {
            name: sum(p.numel() for p in model.parameters()) for name, model in built.items()
        },
        "reading": growth(reading),
        "memory": memory,
        "memory_exponent": {name: exponent(values) for name, values in memory.items()},
        "writing": growth(writing),
        "cache_bytes": cache_bytes,
        "scans": scans(),
    }
    return {"figures": figures}
