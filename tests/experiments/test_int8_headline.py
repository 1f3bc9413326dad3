"""The headline's four variants are one model; C15's verdict follows its thresholds."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import experiments.int8_headline as headline
import experiments.int8_headline_time as timed
from zoo_lessons.deploy.onednn import Int8Linear
from zoo_lessons.layers.sparse_attention import SparseAttention
from zoo_lessons.training import seed_everything


def test_kinds_share_their_weights_and_differ_in_attention():
    seed_everything(0)
    model = headline.LongClassifier().eval()
    batch = headline.texts(1, 300, torch.Generator().manual_seed(0))
    logits = {}
    for kind, local in headline.LOCAL_LAYERS.items():
        made = headline.with_attention(model, kind)
        found = [isinstance(layer.attention.attention, SparseAttention) for layer in made.layers]
        assert found == [True] * local + [False] * (headline.NUM_LAYERS - local)
        with torch.no_grad():
            logits[kind] = made(batch.keys, batch.values)
    assert not torch.allclose(logits["full"], logits["window"], atol=1e-4)
    short = headline.texts(1, 64, torch.Generator().manual_seed(0))  # all inside one window
    with torch.no_grad():
        full, window = (
            headline.with_attention(model, kind)(short.keys, short.values)
            for kind in ("full", "window")
        )
    torch.testing.assert_close(full, window, rtol=1e-4, atol=1e-5)


def test_accuracy_is_counted_by_distance():
    class Guesses(torch.nn.Module):
        """Right where the entry is near, by looking at the answers."""

        def forward(self, keys, values):
            logits = torch.zeros(*keys.shape, headline.NUM_VALUES)
            seen: dict[int, tuple[int, int]] = {}
            tokens = zip(keys[0].tolist(), values[0].tolist(), strict=True)
            for place, (key, value) in enumerate(tokens):
                if value:
                    seen[key] = place, value - 1
                elif key in seen:
                    at, answer = seen[key]
                    near = place - at <= headline.NEAR
                    logits[0, place, answer if near else (answer + 1) % 8] = 1.0
            return logits

    found = headline.judge(Guesses(), 0, count=3, length=1500)
    assert (found["near"], found["far"]) == (1.0, 0.0)
    assert found["asked"]["all"] == 3 * headline.PAIRS
    assert 0 < found["all"] < 1


def test_the_timed_variants():
    made = timed.variants(128)
    assert list(made) == ["full, fp32", "hierarchical, fp32", "full, INT8", "hierarchical, INT8"]
    for name, model in made.items():
        has_int8 = any(isinstance(module, Int8Linear) for module in model.modules())
        assert has_int8 == name.endswith("INT8")


@pytest.mark.parametrize(
    ("faster", "less", "both", "verdict"),
    [
        (True, 0.60, 0.95, "reproduced"),
        (True, 0.80, 0.90, "partly"),
        (True, 0.59, 0.99, "partly"),
        (False, 0.70, 0.99, "partly"),
        (True, 0.10, 0.50, "the article is wrong"),
    ],
)
def test_verdict_on_c15(faster, less, both, verdict):
    quality = {
        timed.BASELINE: {"all": (1.0, 1.0, 1.0), "far": (1.0, 1.0, 1.0)},
        timed.BOTH: {"all": (0.99, 0.9, 1.0), "far": (both, 0.9, 1.0)},
        "window, fp32": {"far": (0.125, 0.1, 0.2)},
    }
    found, kept = timed.judge(faster, less, quality)
    assert found.verdict == verdict
    assert kept == {"all": pytest.approx(0.99), "far": pytest.approx(both)}


def test_our_own_aim_is_said():
    perfect = {"all": (1.0, 1.0, 1.0), "far": (1.0, 1.0, 1.0)}
    quality = {timed.BASELINE: perfect, timed.BOTH: perfect, "window, fp32": perfect}
    assert "is met" in timed.judge(True, 0.75, quality)[0].explanation
    assert "is missed" in timed.judge(True, 0.74, quality)[0].explanation


def test_both_experiments_on_short_texts(monkeypatch):
    monkeypatch.setattr(headline, "START", (64, 1, 1))
    monkeypatch.setattr(headline, "LONGER", ((128, 1, 1),))
    monkeypatch.setattr(headline, "SEEDS", range(2))
    monkeypatch.setattr(headline, "MOST_ROUNDS", 2)
    short = partial(headline.judge, count=2, length=1000)
    monkeypatch.setattr(headline, "judge", lambda model, seed, **_: short(model, seed))
    figures = headline.int8_headline()["figures"]
    assert figures["start_rounds"] == 2 * [{"full": 2, "hierarchical": 2}]  # too few
    assert len(figures["variants"]) == 6
    for variant in figures["variants"].values():
        assert len(variant["runs"]) == 2
        mean, low, high = variant["all"]
        assert low <= mean <= high
    monkeypatch.setattr(timed, "load_record", lambda name: {"figures": figures})
    monkeypatch.setattr(timed, "LENGTHS", (128, 256))
    monkeypatch.setattr(timed, "ROUNDS", 3)
    result = timed.int8_headline_time()
    assert [case["tokens"] for case in result["figures"]["cases"]] == [128, 256]
    assert set(result["verdicts"]) == {"C15"}
