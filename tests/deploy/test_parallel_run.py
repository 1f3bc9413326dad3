"""Trials on real processes: equal to one process, and counted as planned."""

from __future__ import annotations

import os

import pytest

from experiments.c27_mesh import COUNTED, LIMIT, worst_difference
from zoo_lessons.deploy.parallel_run import launch


@pytest.fixture(scope="module")
def found():
    """Four processes take seconds to start, so all trials share them."""
    options = {"schedule": "1F1B", "work": 0.06, "waiting": [1, 4]}
    return launch(["tensor", "dtensor", "data", "mesh", "bubble"], options=options)


def test_split_layers_equal_whole_ones(found):
    for name in ("tensor", "dtensor"):
        assert found[name]["processes"] == 4
        assert max(found[name]["output"], found[name]["gradients"]) <= LIMIT
        # four blocks, two sums each
        assert found[name]["calls"] == {"forward": 8, "backward": 8}
    assert found["tensor"]["parameters"] < found["tensor"]["whole"] / 3


def test_dtensors_hold_a_quarter(found):
    for layer in found["dtensor"]["layout"].values():
        whole, local = (shape[0] * shape[1] for shape in (layer["whole"], layer["local"]))
        assert whole == 4 * local


def test_split_images_give_the_same_gradients(found):
    assert max(found["data"]["by_hand"], found["data"]["ddp"]) <= LIMIT


def test_the_mesh_equals_one_process_and_its_plan(found):
    mesh = found["mesh"]
    assert worst_difference(mesh) <= LIMIT
    assert mesh["losses"][-1] < mesh["losses"][0]
    assert [(rank["stage"], rank["tensor_rank"]) for rank in mesh["ranks"]] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    for rank in mesh["ranks"]:
        assert {name: rank[name] for name in COUNTED} == {
            name: rank["planned"][name] for name in COUNTED
        }


def test_micro_batches_shorten_the_step(found):
    seconds = found["bubble"]["seconds"]["GPipe"]
    # 4 × work, and 7/4 × work: a loaded machine only makes steps longer
    assert seconds["1"] >= 4 * 0.06
    assert seconds["4"] < seconds["1"]


def test_what_fails_is_said():
    with pytest.raises(ValueError, match="unknown trials \\['nothing'\\]"):
        launch(["nothing"])
    with pytest.raises(RuntimeError, match="schedule|KeyError"):
        launch(["mesh"], processes=2, options={"schedule": "zigzag"})
    assert "RANK" not in os.environ
