"""Parallelism's experiments: the verdict follows its rule, and figures are made as they say."""

from __future__ import annotations

import pytest

from experiments import c27_mesh, parallel_time


def run(output=1e-15, memory=1000, loss=2.0):
    rank = {name: 1000 for name in c27_mesh.COUNTED} | {"activations": memory}
    rank["planned"] = {name: 1000 for name in c27_mesh.COUNTED}
    return {
        "output": output,
        "gradients": 2e-15,
        "losses": [3.0, loss],
        "whole_losses": [3.0, 2.0],
        "ranks": [rank],
    }


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (run(), "reproduced"),
        (run(memory=1009), "reproduced"),
        (run(memory=1011), "partly"),
        (run(output=1e-9), "not measurable here"),
        (run(loss=2.0001), "not measurable here"),
    ],
)
def test_the_verdict_asks_every_run(second, said):
    figures = {"runs": {"GPipe": run(), "1F1B": second}, "giant": {"ranks": [{"memory": 11e9}]}}
    found = c27_mesh.verdict(figures)
    assert found.verdict == said
    assert "11.0 GB per rank" in found.ours


def test_the_giant_is_planned_on_four_devices():
    found = c27_mesh.giant()
    assert len(found["ranks"]) == 2
    assert found["batch"] == 128
    # half of the layers, each split in two: about a quarter of 1.84 billion parameters
    assert found["ranks"][0]["memory"] > 16 * 1.84e9 / 4


def test_gains_are_ratios_of_each_round():
    found = parallel_time.gains({"one process": [2.0, 4.0, 6.0], "data": [1.0, 4.0, 2.0]})
    assert found == {"data": {"speedup": 2.0, "low": 1.0, "high": 3.0}}
