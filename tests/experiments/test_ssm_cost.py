"""What is timed is what the record says: the cached token gives the logits of reading all."""

from __future__ import annotations

import pytest
import torch

from experiments.ssm_cost import HEADS, NAMES, WIDTH, filled_cache, models, reader, writer
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.models.gpt import GPT


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    return models()


@pytest.mark.parametrize("name", NAMES)
def test_writing_a_token_gives_what_reading_gives_as_often_as_it_is_called(built, name):
    model = built[name]
    ids = torch.cat([torch.randint(100, (1, 20)), torch.zeros(1, 1, dtype=torch.long)], dim=1)
    cache = KeyValueCache(2) if isinstance(model, GPT) else model.new_cache()
    with torch.no_grad():
        model(ids[:, :-1], cache=cache)
    write, expected = writer(model, cache), reader(model, ids)()
    for _ in range(3):
        torch.testing.assert_close(write(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_filled_cache_is_as_large_as_a_read_one(built, name):
    model = built[name]
    cache = KeyValueCache(2) if isinstance(model, GPT) else model.new_cache()
    with torch.no_grad():
        model(torch.zeros(1, 30, dtype=torch.long), cache=cache)
    filled = filled_cache(model, 30)
    assert filled.nbytes == cache.nbytes
    assert filled.length == cache.length == 30
    writer(model, filled)()


def test_only_attention_keeps_more_and_more(built):
    kept = {name: [filled_cache(built[name], n).nbytes for n in (64, 128)] for name in NAMES}
    assert kept["Mamba"][0] == kept["Mamba"][1] == 2 * 4 * (2 * WIDTH) * (16 + 3)
    assert kept["attention"] == [2 * 2 * WIDTH * n * 4 for n in (64, 128)]
    assert kept["hybrid"] == [kept["Mamba"][0] // 2 + kept["attention"][i] // 2 for i in (0, 1)]
    assert WIDTH % HEADS == 0


def test_models_are_of_about_the_same_size(built):
    counts = {name: sum(p.numel() for p in built[name].layers.parameters()) for name in NAMES}
    assert max(counts.values()) < 1.2 * min(counts.values()), counts
