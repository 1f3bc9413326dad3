"""C13: do augmentation and generated samples make models better, and more robust?

Reads four records: `augment_text` (synonyms, back-translation), `augment_images` (MixUp, CutMix),
`adversarial` (adversarial training), and `generated_samples` (a GAN's and a diffusion model's
images). Each has rows of effects: a paired gain in points over seeds, with its 95 % interval, for
one method, task, classifier, number of labels, and kind of accuracy (on unchanged examples, or
under attack: "robust").

A method's verdict for one kind, over its rows:

- **helps**: the interval lies above 0 in at least half of them, and below 0 in none;
- **hurts**: below 0 in at least half, and above 0 in none;
- **it depends**: some lie above 0 and some below;
- **no clear effect**: anything else.

What the claim says, by method, is in `CLAIMED`: words and mixed images for accuracy, generated
samples for accuracy and robustness, adversarial training for robustness. All are compared with
unchanged training data, except generated samples: these came on top of shifts, and are compared
with shifts. **Reproduced**: every one of these helps. **Partly**: at least one does. Otherwise the
article is wrong.

Nothing here is timed, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.effects import outcome
from zoo_lessons.records import Verdict, experiment, load_record

SOURCES = ("augment_text", "augment_images", "adversarial", "generated_samples")
CLAIMED = (  # method, kind, what it is compared with
    ("synonyms", "accuracy", "none"),
    ("back-translation", "accuracy", "none"),
    ("MixUp", "accuracy", "none"),
    ("CutMix", "accuracy", "none"),
    ("GAN samples", "accuracy", "shifts"),
    ("GAN samples", "robust", "shifts"),
    ("diffusion samples", "accuracy", "shifts"),
    ("diffusion samples", "robust", "shifts"),
    ("adversarial training", "robust", "none"),
)


def judge_method(rows: Sequence[dict[str, Any]]) -> str:
    """The verdict on one method and kind, by the docstring's rules.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("a method needs at least one row of effects, got none")
    found = [outcome(row) for row in rows]
    helps, hurts = found.count("helps"), found.count("hurts")
    if helps and hurts:
        return "it depends"
    if 2 * helps >= len(rows):
        return "helps"
    return "hurts" if 2 * hurts >= len(rows) else "no clear effect"


def summaries(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each method, kind and baseline: the verdict, and how often it is borne out."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["kind"], row["against"]), []).append(row)
    return [
        {
            "method": method,
            "kind": kind,
            "against": against,
            "verdict": judge_method(group),
            "comparisons": len(group),
            "above": sum(outcome(row) == "helps" for row in group),
            "below": sum(outcome(row) == "hurts" for row in group),
            "least_gain": min(row["gain_points"] for row in group),
            "most_gain": max(row["gain_points"] for row in group),
        }
        for (method, kind, against), group in groups.items()
    ]


def judge(found: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict on the claim, from `summaries`."""
    by_key = {(row["method"], row["kind"], row["against"]): row for row in found}
    claimed = [by_key[key] for key in CLAIMED]
    helping = sum(row["verdict"] == "helps" for row in claimed)

    def name(row: dict[str, Any]) -> str:
        return row["method"] + (" (robustness)" if row["kind"] == "robust" else "")

    def those(verdict: str) -> str:
        named = [name(row) for row in claimed if row["verdict"] == verdict]
        return f"{verdict}: {', '.join(named)}" if named else ""

    listed = filter(None, map(those, ("helps", "no clear effect", "it depends", "hurts")))
    return Verdict(
        "reproduced"
        if helping == len(claimed)
        else "partly"
        if helping
        else "the article is wrong",
        ours="gains in points: "
        + ", ".join(
            f"{name(row)} {row['least_gain']:+.1f} to {row['most_gain']:+.1f}" for row in claimed
        ),
        explanation=(
            "By 95 % intervals over seeds, on little data: "
            + "; ".join(listed)
            + ". Small models and images of 8 × 8 pixels: what large models gain is not tested."
        ),
        cell="18#14-·-What-helped?",
    )


@experiment("c13_better_data", claims=["C13"], lesson="18", uses=["experiments.effects"])
def c13_better_data() -> dict[str, Any]:
    rows = [row for name in SOURCES for row in load_record(name)["figures"]["effects"]]
    found = summaries(rows)
    return {
        "figures": {"sources": list(SOURCES), "summaries": found, "effects": rows},
        "verdicts": {"C13": judge(found)},
    }
