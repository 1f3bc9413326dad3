"""Each of the three ways of C10 can hold or fail, and the verdict follows."""

from __future__ import annotations

import pytest

from experiments.c10_three_ways import collect, judge


def figures(probe=0.95, recall=0.8, seen=(0.8, 0.75, 0.85), shut=True, captions=0.9):
    return {
        "probe": probe,
        "recall@1": {"image to text": 0.9, "text to image": recall},
        "searched": 500,
        "captions": captions,
        "shots": 8,
        "with images": list(seen),
        "grey images": [0.25, 0.2, 0.3],
        "shut gates give the language model": shut,
    }


@pytest.mark.parametrize(
    ("found", "verdict", "fails"),
    [
        (figures(), "reproduced", "none"),
        (figures(probe=0.89), "partly", "own encoders"),
        (figures(recall=0.49), "partly", "a shared space"),
        (figures(seen=(0.4, 0.3, 0.5)), "partly", "cross-attention"),
        (figures(shut=False), "partly", "cross-attention"),
        (figures(captions=0.49), "partly", "cross-attention"),
        (figures(0.5, 0.1, (0.2, 0.1, 0.3)), "the article is wrong", "own encoders, a shared"),
    ],
)
def test_verdict(found, verdict, fails):
    judged = judge(found)
    assert judged.verdict == verdict
    assert f"these do not: {fails}" in judged.explanation


def test_collect_takes_the_most_shots():
    clip = {
        "retrieval": {"image to text": {"recall@1": 0.9, "recall@5": 1.0}},
        "searched": 500,
    }
    flamingo = {
        "probe": {"class token": {"test": 0.97, "composition": 0.9}, "latents": {"test": 0.1}},
        "blind": {"2": {"all": [0.1, 0, 0.2]}, "10": {"all": [0.3, 0.2, 0.4]}},
        "flamingo": {"test": {"2": {"all": [0, 0, 0]}, "10": {"all": [0.9, 0.8, 1.0]}}},
        "shut gates give the language model": True,
    }
    found = collect(clip, {"test": {"captions": 0.8}}, flamingo)
    assert found["shots"] == 10 and found["with images"] == [0.9, 0.8, 1.0]
    assert found["grey images"] == [0.3, 0.2, 0.4] and found["probe"] == 0.97
    assert found["captions"] == 0.8 and found["recall@1"] == {"image to text": 0.9}
    assert judge(found).verdict == "reproduced"
