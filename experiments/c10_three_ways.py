"""C10: modalities meet through their own encoders, a shared space, or cross-attention.

Lessons 12 to 14 build all three ways. What they do is read from their records; nothing is trained
here. Each way has its own test:

- **own encoders** (lesson 12's CLIP, record `flamingo_episodes`): holds if a linear probe names the
  shape of at least 90 % of unseen drawings from what the image encoder says alone, without a text
  (chance: 1 in 8).
- **a shared space** (record `clip_shapes`): holds if at least half of the images find their own
  caption first among all captions, and half of the captions their own image, by nothing but the
  cosine of two vectors (chance: 1 in 500).
- **cross-attention** (records `blip_shapes`, `flamingo_episodes`): holds if BLIP, whose decoder
  meets the image only there, writes a right caption of at least half of the unseen images; if
  Flamingo with 8 shots answers more queries than the same model with grey images, with the whole
  95 % interval over the seeds above the other's; and if with its gates shut it is the language
  model, bit for bit, so that nothing but the gated blocks lets an image in.

**Reproduced** if all three hold, **partly** if some do, otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo_lessons.records import Verdict, experiment, load_record

PROBE, FOUND = 0.9, 0.5


def collect(
    clip: Mapping[str, Any], blip: Mapping[str, Any], flamingo: Mapping[str, Any]
) -> dict[str, Any]:
    """What the verdict needs, from the figures of the three records."""
    shots = max(flamingo["blind"], key=int)
    return {
        "probe": flamingo["probe"]["class token"]["test"],
        "recall@1": {way: found["recall@1"] for way, found in clip["retrieval"].items()},
        "searched": clip["searched"],
        "captions": blip["test"]["captions"],
        "shots": int(shots),
        "with images": flamingo["flamingo"]["test"][shots]["all"],
        "grey images": flamingo["blind"][shots]["all"],
        "shut gates give the language model": flamingo["shut gates give the language model"],
    }


def judge(figures: Mapping[str, Any]) -> Verdict:
    """The verdict by the rule above."""
    seen, blind = figures["with images"], figures["grey images"]
    holds = {
        "own encoders": figures["probe"] >= PROBE,
        "a shared space": min(figures["recall@1"].values()) >= FOUND,
        "cross-attention": (
            figures["captions"] >= FOUND
            and seen[1] > blind[2]
            and figures["shut gates give the language model"] is True
        ),
    }
    verdict = "reproduced" if all(holds.values()) else "partly" if any(holds.values()) else None
    recall = ", ".join(f"{way} {found:.0%}" for way, found in figures["recall@1"].items())
    return Verdict(
        verdict or "the article is wrong",
        ours=(
            f"shapes read from the image encoder alone {figures['probe']:.0%}; found first among "
            f"{figures['searched']}, {recall}; BLIP's captions right {figures['captions']:.0%}; "
            f"new words after {figures['shots']} shots {seen[0]:.0%}, "
            f"with grey images {blind[0]:.0%}"
        ),
        explanation=(
            f"These ways work: {_listed(holds, True)}; these do not: {_listed(holds, False)}. They "
            "do not exclude each other: Flamingo's encoder is CLIP's image tower. Drawings of "
            "shapes and models of under a million parameters."
        ),
        cell="14#C10:-encoders,-a-shared-space,-cross-attention",
    )


def _listed(holds: Mapping[str, bool], wanted: bool) -> str:
    return ", ".join(name for name, held in holds.items() if held == wanted) or "none"


@experiment("c10_three_ways", claims=["C10"], lesson="14")
def c10_three_ways() -> dict[str, Any]:
    records = ("clip_shapes", "blip_shapes", "flamingo_episodes")
    figures = collect(*(load_record(name)["figures"] for name in records))
    return {"figures": figures, "verdicts": {"C10": judge(figures)}}
