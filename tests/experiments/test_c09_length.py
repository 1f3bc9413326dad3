"""C09's ways compute what they say; exponents, crossing points and verdict from made-up costs."""

from __future__ import annotations

import os

import pytest
import torch

from experiments.c09_length import (
    CAUSAL,
    CHEAP,
    FULL,
    FUSED,
    LENGTHS,
    LINEAR,
    UNION,
    WINDOW,
    WRITTEN,
    exponents,
    first_faster,
    judge,
    system_share,
    ways,
)


def test_ways():
    torch.manual_seed(0)
    outputs = {name: way() for name, way in ways(300).items()}
    assert {tuple(output.shape) for output in outputs.values()} == {(1, 1, 300, 64)}
    torch.testing.assert_close(outputs[FUSED], outputs[WRITTEN], atol=1e-5, rtol=1e-4)
    for name, other in [(WINDOW, FUSED), (UNION, WINDOW), (LINEAR, FUSED), (CAUSAL, LINEAR)]:
        assert not torch.allclose(outputs[name], outputs[other], atol=1e-3)
    # The last token of a causal text sees all of it.
    torch.testing.assert_close(outputs[CAUSAL][:, :, -1], outputs[LINEAR][:, :, -1])


def costs(full: float, cheap: float, constant: float = 0.0) -> dict[str, list[float]]:
    power = {**dict.fromkeys(FULL, full), **dict.fromkeys(CHEAP, cheap)}
    return {name: [constant + n**p for n in LENGTHS] for name, p in power.items()}


def test_exponents():
    found = exponents(costs(2, 1))
    assert found[WRITTEN]["all"]["value"] == pytest.approx(2)
    assert found[LINEAR]["long"]["value"] == pytest.approx(1)
    with_start = exponents(costs(2, 1, constant=1000))
    assert with_start[LINEAR]["all"]["value"] < with_start[LINEAR]["long"]["value"] < 1


def test_system_share():
    """Reading random bytes is the system's work, adding numbers is not."""
    busy = system_share(lambda: [os.urandom(1 << 20) for _ in range(20)])
    assert system_share(lambda: sum(range(1_000_000))) < 0.5 < busy


def test_first_faster():
    seconds = costs(2, 1)
    seconds[WINDOW] = [1e6 + n for n in LENGTHS]
    seconds[CAUSAL] = [1e12] * len(LENGTHS)
    found = first_faster(seconds)
    assert found[LINEAR] == LENGTHS[0] and found[CAUSAL] is None
    assert found[WINDOW] == next(n for n in LENGTHS if 1e6 + n < n**2)


@pytest.mark.parametrize(
    ("time", "memory", "verdict"),
    [
        ((2.1, 1.05), (2.0, 1.0), "reproduced"),
        ((2.1, 1.3), (2.0, 1.0), "partly"),
        ((1.5, 1.0), (2.0, 1.0), "partly"),
        ((2.0, 1.0), (1.5, 1.0), "partly"),
        ((1.5, 1.0), (1.5, 1.0), "the article is wrong"),
    ],
)
def test_verdict(time, memory, verdict):
    shares = {WRITTEN: 0.7, FUSED: 0.01}
    found = judge(exponents(costs(*time)), exponents(costs(*memory)), shares)
    assert found.verdict == verdict
    assert "n^" in found.ours and "70% of the written-out" in found.explanation
