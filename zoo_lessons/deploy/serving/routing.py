"""Which version of a model answers whom; and when a canary has to go.

A canary is a new version that gets a small share of the users first (Beyer et al., "Site
Reliability Engineering", 2016, chapter 27). Two things matter here:

- **Sticky.** The same user always meets the same version: otherwise answers flicker, and a user's
  complaint can be traced to no version.
- **Judged.** Its errors, and its answers that turned out wrong, are compared with the stable
  version's over the same time. If it is worse by more than chance explains, it goes at once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Shares of the traffic that sum to 1, from weights that need not.

    Raises:
        ValueError: no version, a negative or infinite weight, or only zeros.
    """
    if not weights:
        raise ValueError("weights name no version, expected at least one")
    for version, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"weight {weight} of version {version!r} must be finite and at least 0"
            )
    total = sum(weights.values())
    if total == 0:
        raise ValueError(f"weights of {', '.join(weights)} are all 0: nobody would answer")
    return {version: weight / total for version, weight in weights.items()}


def choose_version(weights: Mapping[str, float], user: str, *, salt: str = "") -> str:
    """The version that answers this user: always the same one while the weights stay.

    The user's name is hashed to a number in [0, 1), and the versions, by name, share that interval
    according to their weights. A larger canary weight moves users *to* the canary only: nobody
    who met it is sent back (with two versions, of which the canary's name sorts last).

    Args:
        weights: as for `check_weights`.
        user: who asks.
        salt: another salt gives another draw, so that the same users are not always the first.
    """
    shares = check_weights(weights)
    digest = hashlib.sha256(f"{salt}\0{user}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    end = 0.0
    for version in sorted(shares):
        end += shares[version]
        if place < end:
            return version
    return max(version for version, share in shares.items() if share > 0)  # rounding


@dataclass
class Outcomes:
    """What became of one version's requests."""

    answered: int = 0
    errors: int = 0
    right: int = 0
    wrong: int = 0

    @property
    def requests(self) -> int:
        return self.answered + self.errors

    @property
    def judged(self) -> int:
        return self.right + self.wrong


@dataclass(frozen=True)
class Judgement:
    """`rollback`, and the reason for it or against it, as a sentence."""

    rollback: bool
    reason: str


def judge_canary(
    stable: Outcomes, canary: Outcomes, *, at_least: int = 30, alpha: float = 1e-3
) -> Judgement:
    """Whether the canary is worse than the stable version.

    Fisher's exact test, one-sided, on errors and on wrong answers: how likely is a difference as
    large as this one if both versions are equally good? A canary is judged many times, so `alpha`
    is small; `experiments/canary.py` measures how often a good canary is sent back all the same.

    Args:
        stable, canary: over the same time.
        at_least: requests (or answers with known truth) of the canary before it is judged.
        alpha: the p-value below which it goes.
    """
    kinds = {
        "errors": (canary.errors, canary.requests, stable.errors, stable.requests),
        "wrong answers": (canary.wrong, canary.judged, stable.wrong, stable.judged),
    }
    judged = False
    for kind, (bad, total, stable_bad, stable_total) in kinds.items():
        if total < at_least or stable_total == 0:
            continue
        judged = True
        p_value = _p_value(bad, total, stable_bad, stable_total)
        if p_value < alpha:
            reason = (
                f"{kind}: canary {bad} of {total}, stable {stable_bad} of {stable_total}, "
                f"p = {p_value:.2g} < {alpha:g}"
            )
            return Judgement(True, reason)
    reason = "no worse than chance explains" if judged else f"fewer than {at_least} outcomes"
    return Judgement(False, reason)


@lru_cache(maxsize=10_000)
def _p_value(bad: int, total: int, stable_bad: int, stable_total: int) -> float:
    """Fisher's exact test, one-sided: has the first group more bad ones than chance gives it?"""
    from scipy.stats import fisher_exact

    table = [[bad, total - bad], [stable_bad, stable_total - stable_bad]]
    return float(fisher_exact(table, alternative="greater").pvalue)
