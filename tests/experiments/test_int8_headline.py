"""The headline's four variants are one model; C15's verdict follows its thresholds."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import experiments.int8_headline as headline
import experiments.int8_headline_time as timed
from zoo_lessons.deploy.onednn import Int8Linear, PackedLinear, StaticInt8Linear
from zoo_lessons.layers.window_attention import WindowAttention
from zoo_lessons.training import seed_everything


def test_kinds_share_their_weights_and_differ_in_attention():
    seed_everything(0)
    model = headline.LongClassifier().eval()
    batch = headline.texts(1, 300, torch.Generator().manual_seed(0))
    logits = {}
    for kind, local in headline.LOCAL_LAYERS.items():
        made = headline.with_attention(model, kind)
        found = [isinstance(layer.attention.attention, WindowAttention) for layer in made.layers]
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
    kinds = {
        "full, fp32": PackedLinear,
        "hierarchical, fp32": PackedLinear,
        "full, INT8": StaticInt8Linear,
        "hierarchical, INT8": StaticInt8Linear,
        "hierarchical, INT8, ranges at each call": Int8Linear,
    }
    assert list(made) == list(kinds)
    for name, model in made.items():
        linears = {type(m) for m in model.modules() if hasattr(m, "packed")}
        assert linears == {kinds[name]}
        local = sum(isinstance(x.attention.attention, WindowAttention) for x in model.layers)
        assert local == (headline.NUM_LAYERS - 1 if name.startswith("hierarchical") else 0)


def test_int8_gives_nearly_the_same_logits():
    seed_everything(0)
    model, chance = headline.LongClassifier().eval(), torch.Generator().manual_seed(0)
    ranges = headline.ranges_of(model, 300, chance)
    batch = headline.texts(1, 300, chance)
    with torch.no_grad():
        expected = model(batch.keys, batch.values)
        found = timed.static_int8_linears(model, ranges)(batch.keys, batch.values)
    assert 1e-4 < (found - expected).norm() / expected.norm() < 0.05


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
    """Only what is measured at 4,096 tokens counts for it."""
    keeps = {4096: {"all": 0.99, "far": both}, 16384: {"all": 0.1, "far": 0.1}}
    found = timed.judge(faster, {512: 0.0, 4096: less, 16384: 0.9}, keeps, 0.125)
    assert found.verdict == verdict
    assert found.ours.startswith(f"{less:.0%} less latency at 99.0% of the accuracy")
    assert found.ours.endswith("90% less at 10.0% with 16,384")


def test_share_of_the_accuracy_that_is_kept():
    quality = {
        timed.BASELINE: {"all": (0.8, 0.0, 1.0), "far": (0.5, 0.0, 1.0)},
        timed.BOTH: {"all": (0.6, 0.0, 1.0), "far": (0.5, 0.0, 1.0)},
    }
    assert timed.kept(quality) == {"all": pytest.approx(0.75), "far": 1.0}


@pytest.mark.parametrize(
    ("saved", "kept", "said"),
    [
        ((0.75, 0.8), (0.98, 0.98), "met at 4,096 and 16,384 tokens"),
        ((0.74, 0.8), (1.0, 0.98), "met at 16,384 tokens"),
        ((0.8, 0.9), (1.0, 0.97), "met at 4,096 tokens"),
        ((0.74, 0.9), (1.0, 0.97), "missed at every length"),
    ],
)
def test_our_own_aim_is_said_for_each_length(saved, kept, said):
    less = {2048: 0.99, **dict(zip((4096, 16384), saved, strict=True))}  # 2,048 has no quality
    keeps = {
        tokens: {"all": 1.0, "far": share}
        for tokens, share in zip((4096, 16384), kept, strict=True)
    }
    assert said in timed.judge(True, less, keeps, 0.1).explanation


def test_both_experiments_on_short_texts(monkeypatch):
    monkeypatch.setattr(headline, "START", (64, 1, 1))
    monkeypatch.setattr(headline, "LONGER", ((128, 1, 1),))
    monkeypatch.setattr(headline, "SEEDS", range(2))
    monkeypatch.setattr(headline, "MOST_ROUNDS", 2)
    monkeypatch.setattr(headline, "LONGEST", {512: 1, 1024: 1})
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
    assert [each["tokens"] for each in figures["longer"]] == [512, 1024]
    for each in figures["longer"]:
        assert list(each["variants"]) == [timed.BASELINE, timed.BOTH]
        assert each["texts"] == 1
    monkeypatch.setattr(timed, "LENGTH", 256)
    monkeypatch.setattr(timed, "LONGEST", (512, 1024))
    monkeypatch.setattr(timed, "ROUNDS", {128: 3, 256: 3, 512: 3, 1024: 3})
    result = timed.int8_headline_time()
    found = result["figures"]
    assert [case["tokens"] for case in found["cases"]] == [128, 256, 512, 1024]
    assert [timed.DYNAMIC in case["ratio"] for case in found["cases"]] == [True, True, False, False]
    assert list(found["kept_longer"]) == ["512", "1024"]
    assert set(result["verdicts"]) == {"C15"}
