"""The two ways that are timed give the same logits, as often as they are called."""

from __future__ import annotations

import torch

from experiments.kv_cache import CONFIG, WITH, WITHOUT, ways
from zoo_lessons.models.gpt import GPT


def test_both_ways_give_the_same_logits_and_the_cache_does_not_grow():
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    functions, cache = ways(model, torch.randint(CONFIG.vocab_size, (1, 20)))
    expected = functions[WITHOUT]()
    for _ in range(3):
        torch.testing.assert_close(functions[WITH](), expected, atol=1e-5, rtol=1e-4)
        assert cache.length == 20
    assert cache.nbytes == 2 * CONFIG.num_layers * CONFIG.d_model * 20 * 4
