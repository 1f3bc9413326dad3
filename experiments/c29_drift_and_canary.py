"""C29: drift caught and answered, a bad canary rolled back, a table of costs; from three records.

- **Drift** (record `drift`): the corrected test's false alarms are at most three times alpha; on
  every day the tilted digits raise an alarm, and at most 10 % of the days have an early one; and
  retraining on new and old digits wins back at least half of the accuracy lost on tilted digits
  while the usual ones stay at 90 % or more.
- **Canary** (record `canary`): at 10 % of the users, at least 95 % of the roll-outs with 20 % of
  wrong answers are sent home, and at most 2 % of those that are as good as the stable version.
- **Costs** (record `serving_load`): some way of running the service sustains one of the rates, so
  that the table has a row to choose.

**Reproduced** if all three hold; **partly** if one or two do; otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo_lessons.records import Verdict, experiment, load_record

ALARMS, EARLY_DAYS, WON_BACK, USUAL = 3.0, 0.1, 0.5, 0.9
CAUGHT, SENT_HOME, BAD = 0.95, 0.02, 0.2


def drift_holds(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the record says of alarms and of retraining."""
    days = figures["days"]
    runs = [run["new and old"] for run in figures["retrained"]]
    tilted, usual = (sum(run[kind] for run in runs) / len(runs) for kind in ("tilted", "usual"))
    before, whole = figures["before"]["tilted"], figures["before"]["usual"]
    won_back = (tilted - before) / (whole - before)
    alarms = figures["false_alarms"]["KS, corrected"]
    holds = (
        alarms <= ALARMS * figures["alpha"]
        and all(one["delay"] is not None for one in days)
        and sum(one["early"] > 0 for one in days) <= EARLY_DAYS * len(days)
        and won_back >= WON_BACK
        and usual >= USUAL
    )
    return {
        "false_alarms": alarms,
        "alarms": sum(one["delay"] is not None for one in days) / len(days),
        "before": before,
        "tilted": tilted,
        "usual": usual,
        "won_back": won_back,
        "holds": holds,
    }


def canary_holds(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the record says of bad canaries and of good ones."""
    bad = next(row for row in figures["bad"] if row["canary_error"] == BAD)
    good = figures["as_good"]["alpha"]["sent_home"]
    return {
        "caught": bad["sent_home"],
        "requests": bad["requests"][1],
        "good_sent_home": good,
        "holds": bad["sent_home"] >= CAUGHT and good <= SENT_HOME,
    }


def judge(parts: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """By the thresholds of this file's first lines."""
    holding = sum(part["holds"] for part in parts.values())
    verdict = (
        "reproduced" if holding == len(parts) else "partly" if holding else "the article is wrong"
    )
    drift, canary, costs = parts["drift"], parts["canary"], parts["costs"]
    return Verdict(
        verdict,
        ours=f"drift caught on {drift['alarms']:.0%} of the days, with {drift['false_alarms']:.1%} "
        f"false alarms per window; {canary['caught']:.0%} of the bad canaries rolled back, after "
        f"{canary['requests']} requests; {canary['good_sent_home']:.0%} of the good ones",
        explanation=(
            f"Retraining took the tilted digits from {drift['before']:.0%} to "
            f"{drift['tilted']:.0%}, and left the usual ones at {drift['usual']:.0%}. The most "
            f"that one replica sustained was {costs['sustained']} requests per second, of the "
            "rates tried."
        ),
        cell="21#What-it-costs",
    )


@experiment(
    "c29_drift_and_canary",
    claims=["C29"],
    lesson="21",
    uses=["experiments.drift", "experiments.canary", "experiments.serving_load"],
)
def c29_drift_and_canary() -> dict[str, Any]:
    sustained = max(load_record("serving_load")["figures"]["sustained"].values())
    parts = {
        "drift": drift_holds(load_record("drift")["figures"]),
        "canary": canary_holds(load_record("canary")["figures"]),
        "costs": {"sustained": sustained, "holds": sustained > 0},
    }
    return {"figures": parts, "verdicts": {"C29": judge(parts)}}
