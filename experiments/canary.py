"""How a canary is judged: how often a good one is sent home, and how soon a bad one.

Traffic by arithmetic: users ask, `choose_version` sends them to a version, the answer is wrong with
that version's error rate, and after each outcome of the canary `judge_canary` is asked, as in the
service. The stable version's error rate is that of the digit reader's checkpoint.

- **A/A**: the canary is as good as the stable version. Share of roll-outs sent home within 3,000
  requests: at the service's alpha of 0.001, and at 0.05, which would do for a single look.
- **Bad canaries** with 5, 10, 20, 50 and 100 % of wrong answers, at 10 % of the users; and one with
  20 %, at 2, 10 and 30 % of the users: share caught, requests until then, wrong answers that users
  got from the canary.

100 roll-outs each. Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from zoo_lessons.deploy.serving.routing import Outcomes, choose_version, judge_canary
from zoo_lessons.records import experiment, load_record

REQUESTS, USERS, ROLLOUTS, AT_LEAST = 3000, 500, 100, 30
ALPHA, NAIVE_ALPHA = 1e-3, 0.05
ERRORS, SHARES, SHARE, MIDDLE = (0.05, 0.1, 0.2, 0.5, 1.0), (0.02, 0.1, 0.3), 0.1, 0.2


def roll_out(
    stable_error: float, canary_error: float, share: float, seed: int, alpha: float = ALPHA
) -> tuple[int, int] | None:
    """Requests until the canary was sent home, and its wrong answers by then; None: it stayed."""
    draw = random.Random(seed)
    weights = {"v1": 1 - share, "v2": share}
    version = {u: choose_version(weights, f"user-{u}", salt=str(seed)) for u in range(USERS)}
    stable, canary = Outcomes(), Outcomes()
    for request in range(1, REQUESTS + 1):
        on_canary = version[draw.randrange(USERS)] == "v2"
        outcomes, error = (canary, canary_error) if on_canary else (stable, stable_error)
        outcomes.answered += 1
        if draw.random() < error:
            outcomes.wrong += 1
        else:
            outcomes.right += 1
        if on_canary and judge_canary(stable, canary, at_least=AT_LEAST, alpha=alpha).rollback:
            return request, canary.wrong
    return None


def many(stable_error: float, canary_error: float, share: float, **options: Any) -> dict[str, Any]:
    """Over all roll-outs: share sent home, and the quartiles of how soon."""
    found = [
        roll_out(stable_error, canary_error, share, seed, **options) for seed in range(ROLLOUTS)
    ]
    home = [one for one in found if one is not None]
    row: dict[str, Any] = {
        "canary_error": canary_error,
        "share": share,
        "sent_home": len(home) / ROLLOUTS,
    }
    if home:
        requests, wrong = np.array(home).T
        row["requests"] = [round(float(q)) for q in np.quantile(requests, [0.25, 0.5, 0.75])]
        row["wrong"] = round(float(np.median(wrong)), 1)
    return row


@experiment(
    "canary",
    lesson="21",
    uses=["experiments.digits_vit", "zoo_lessons.deploy.serving.routing"],
)
def canary() -> dict[str, Any]:
    stable = round(1 - load_record("digits_vit")["figures"]["accuracy"]["test"], 4)
    return {
        "figures": {
            "stable_error": stable,
            "requests": REQUESTS,
            "rollouts": ROLLOUTS,
            "alpha": ALPHA,
            "naive_alpha": NAIVE_ALPHA,
            "as_good": {
                "alpha": many(stable, stable, SHARE),
                "naive_alpha": many(stable, stable, SHARE, alpha=NAIVE_ALPHA),
            },
            "bad": [many(stable, error, SHARE) for error in ERRORS],
            "shares": [many(stable, MIDDLE, share) for share in SHARES],
        }
    }
