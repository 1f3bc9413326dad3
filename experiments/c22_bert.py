"""C22: BERT's input is the sum of three embeddings, and it has two tasks. Does each part matter?

Reads two records: `bert_prose`, a small BERT pre-trained on prose, and `bert_tasks`, which compares
ways of pre-training on captions.

C22 is **reproduced** if all three hold, and **partly** if the first does and another does not:

1. on prose, the recorded checkpoint fills holes better than the left bigram, and better with the
   positions and the segments than without (`experiments.bert_prose`);
2. 80/10/10 beats always [MASK] on `slips`, by an interval of the difference that is above 0;
3. next-sentence prediction improves `accuracy` or `probe`, by such an interval.

Without the first the model has learned too little to say anything: **not measurable here**.

Intervals are Student's, 95 %, over the differences of paired seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.intervals import mean_interval
from zoo_lessons.records import Verdict, experiment, load_record


def differences(figures: dict[str, list[dict]], arm: str, name: str) -> tuple[float, float, float]:
    """BERT minus another arm: mean and interval over paired seeds."""
    pairs = zip(figures["BERT"], figures[arm], strict=True)
    return mean_interval([ours[name] - theirs[name] for ours, theirs in pairs])


def verdict(figures: dict[str, list[dict]], prose: dict[str, Any]) -> Verdict:
    """By the thresholds above."""
    masked, parts = prose["masked"], prose["without"]
    ours = masked["BERT"]["perplexity"]
    fills = ours < masked["bigram"]["perplexity"] and all(
        ours < part["perplexity"] for part in parts.values()
    )
    rule = {name: differences(figures, "always [MASK]", name) for name in ("slips", "probe")}
    task = {name: differences(figures, "no next sentence", name) for name in ("accuracy", "probe")}
    helps = any(low > 0 for _, low, _ in task.values())
    holds = [fills, rule["slips"][1] > 0, helps]

    def text(values: Sequence[float]) -> str:
        return "{:+.3f} ({:+.3f} to {:+.3f})".format(*values)

    return Verdict(
        "reproduced" if all(holds) else "partly" if fills else "not measurable here",
        ours=(
            f"on prose, perplexity at holes {ours:.0f} (unigram "
            f"{masked['unigram']['perplexity']:.0f}, left bigram "
            f"{masked['bigram']['perplexity']:.0f}, two-sided bigram "
            f"{masked['two-sided bigram']['perplexity']:.0f})"
        ),
        explanation=(
            f"On captions, 80/10/10 minus always [MASK]: the true word above a wrong one "
            f"{text(rule['slips'])}, colour probe {text(rule['probe'])}. With minus without "
            f"next-sentence prediction: filling holes {text(task['accuracy'])}, colour probe "
            f"{text(task['probe'])}. Means over {len(figures['BERT'])} seeds with 95 % intervals."
        ),
        cell="07#Claim-C22,-measured",
    )


@experiment(
    "c22_bert",
    claims=["C22"],
    lesson="07",
    uses=["experiments.bert_prose", "experiments.bert_tasks", "experiments.intervals"],
)
def c22_bert() -> dict[str, Any]:
    prose = load_record("bert_prose")["figures"]
    tasks = load_record("bert_tasks")["figures"]["arms"]
    figures = {
        f"BERT minus {arm}": {
            name: [round(value, 4) for value in differences(tasks, arm, name)]
            for name in tasks[arm][0]
        }
        for arm in ("always [MASK]", "no next sentence")
    }
    return {"figures": figures, "verdicts": {"C22": verdict(tasks, prose)}}
