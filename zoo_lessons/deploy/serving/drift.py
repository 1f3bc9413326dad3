"""Drift: do today's inputs still look like those that the model was tested on?

Nobody tells a service that the world has changed: labels come late or never. But inputs can be
compared with inputs. The model's own vectors of them are compared here (Rabanser et al. 2019,
"Failing Loudly", arXiv:1810.11953, sections 3 and 4), with one of two tests:

- **KS**: the two-sample Kolmogorov-Smirnov test in each dimension by itself. With 48 dimensions, 48
  tests are made, and each would cry wolf now and then. So the smallest p-value is compared with
  alpha / dimensions (Bonferroni).
- **MMD**: the maximum mean discrepancy, one number for all dimensions together, whose p-value comes
  from shuffling the two samples (Gretton et al. 2012, JMLR 13, sections 2 and 5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TESTS = ("ks", "mmd")


@dataclass(frozen=True)
class DriftReport:
    """What a test said.

    Attributes:
        drifted: whether `p_value` is below `threshold`.
        p_value: the smallest over the dimensions for "ks".
        threshold: alpha, divided by the number of dimensions for "ks".
        dimension: the one that differs most, for "ks".
    """

    drifted: bool
    p_value: float
    threshold: float
    dimension: int | None = None


def drift_test(
    reference: np.ndarray,
    window: np.ndarray,
    *,
    test: str = "ks",
    alpha: float = 0.01,
    correct: bool = True,
    permutations: int = 500,
    seed: int = 0,
) -> DriftReport:
    """Whether two samples of vectors differ by more than chance explains.

    Args:
        reference: (n, d), inputs of the time when all was well.
        window: (m, d), today's.
        test: "ks" or "mmd".
        alpha: how often a false alarm is acceptable.
        correct: Bonferroni's correction of "ks". False only to show why it is needed.
        permutations: shuffles of "mmd".
        seed: of the shuffles.

    Raises:
        ValueError: an unknown test, other shapes, or a p-value that can never fall below alpha.
    """
    if test not in TESTS:
        raise ValueError(f"test={test!r} must be one of {', '.join(map(repr, TESTS))}")
    if reference.ndim != 2 or window.ndim != 2 or reference.shape[1] != window.shape[1]:
        raise ValueError(
            f"reference {reference.shape} and window {window.shape} must be (n, d) and (m, d)"
        )
    if test == "ks":
        from scipy.stats import ks_2samp

        p_values = ks_2samp(reference, window, axis=0).pvalue  # (d,)
        dimension = int(np.argmin(p_values))
        threshold = alpha / len(p_values) if correct else alpha
        p_value = float(p_values[dimension])
        return DriftReport(p_value < threshold, p_value, threshold, dimension)
    if 1 / (permutations + 1) >= alpha:
        raise ValueError(f"permutations={permutations} cannot give a p-value below alpha={alpha}")
    p_value = mmd_p_value(reference, window, permutations, np.random.default_rng(seed))
    return DriftReport(p_value < alpha, p_value, alpha)


def mmd_p_value(
    x: np.ndarray, y: np.ndarray, permutations: int, generator: np.random.Generator
) -> float:
    """Share of shuffles whose squared MMD is at least as large as the one found.

    Gaussian kernel, whose width is the median distance (Gretton et al. 2012, section 8).
    """
    both = np.concatenate([x, y])
    squares = (both**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * both @ both.T, 0)
    width = np.median(distances[np.triu_indices(len(both), k=1)])
    kernel = np.exp(-distances / max(width, 1e-12))
    # With a = 1/n for rows of x and -1/m for rows of y, the squared MMD is a K a.
    signs = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    shuffled = generator.permuted(np.tile(signs, (permutations, 1)), axis=1)
    found = signs @ kernel @ signs
    by_chance = ((shuffled @ kernel) * shuffled).sum(axis=1)
    return float((1 + (by_chance >= found - 1e-12).sum()) / (permutations + 1))


class DriftMonitor:
    """Takes vectors one by one, and tests each full window.

    Args:
        reference: (n, d).
        window: vectors per test. Windows do not overlap: overlapping ones would be tested on the
            same vectors again and again, and cry wolf more often than alpha says.
        patience: windows in a row that must have drifted before it counts as an alarm. A single
            one may be chance; two in a row are so with about alpha squared.
        **options: of `drift_test`.

    Raises:
        ValueError: window or patience below 1.
    """

    def __init__(
        self, reference: np.ndarray, *, window: int = 150, patience: int = 2, **options: object
    ):
        if window < 1 or patience < 1:
            raise ValueError(f"window={window} and patience={patience} must be at least 1")
        self.reference, self.window, self.patience = np.asarray(reference), window, patience
        self.options = options
        self.reports: list[DriftReport] = []
        self._waiting: list[Sequence[float]] = []
        self._latest: deque[bool] = deque(maxlen=patience)

    @property
    def alarm(self) -> bool:
        """Whether the last `patience` windows have all drifted."""
        return len(self._latest) == self.patience and all(self._latest)

    def add(self, vector: Sequence[float]) -> DriftReport | None:
        """Take a vector (d,). Returns a report when it completes a window."""
        self._waiting.append(vector)
        if len(self._waiting) < self.window:
            return None
        report = drift_test(self.reference, np.asarray(self._waiting), **self.options)
        self._waiting.clear()
        self._latest.append(report.drifted)
        self.reports.append(report)
        return report
