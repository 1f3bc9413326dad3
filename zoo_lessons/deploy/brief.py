"""The brief of lesson 23: what the post office asks for, and what every plan was measured at."""

from __future__ import annotations

from collections.abc import Mapping

from zoo_lessons.deploy.plans import Limits, Measured, Plan, table_of
from zoo_lessons.records import load_record

# p99 and throughput are in units of the machine that stands there today: lesson 09's ViT in
# PyTorch, one digit at a time.
CLIENT = Limits(accuracy=0.9375, p99=0.4, throughput=10.0, kilobytes=100.0)


def recorded_table() -> dict[Plan, Measured]:
    """Every plan of the records `reading_plans` (accuracy, size) and `reading_times`.

    Accuracy is on people who were left out, never on the sealed test.
    """
    times = load_record("reading_times")["figures"]["rows"]
    rows = []
    for row in load_record("reading_plans")["figures"]["plans"]:
        timed = times[f"{row['model']}, {row['precision']}"]
        rows.append({**row, "p99": timed["p99"], "throughput": timed["throughput"]})
    return table_of(rows)


def said(short: Mapping[str, float]) -> str:
    """Missed limits, as `plans.missed` gives them, in words."""
    words = {
        "accuracy": lambda amount: f"the accuracy by {100 * amount:.1f} points",
        "p99": lambda amount: f"p99 by {amount:.2f} of the reference's",
        "throughput": lambda amount: f"the throughput by {amount:.1f} times the reference's",
        "kilobytes": lambda amount: f"the file's size by {amount:.0f} KB",
    }
    return ", ".join(words[name](amount) for name, amount in short.items())
