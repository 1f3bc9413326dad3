"""Exercises of lesson 23: a tail's ratio, a choice under limits, an alarm, a canary's fate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo_lessons.deploy.plans import Plan, missed
from zoo_lessons.lab.exercises.grading import Exercise, Mistake, Verdict
from zoo_lessons.lab.exercises.run import Case

# --- the 99th percentile against the reference's -------------------------------------------------


def p99_ratio(seconds: Any, reference: Any) -> float:
    return float(np.percentile(seconds, 99) / np.percentile(reference, 99))


def _ratio_mean_of_rounds(seconds, reference):
    pairs = zip(seconds, reference, strict=True)
    return float(np.mean([np.percentile(a, 99) / np.percentile(b, 99) for a, b in pairs]))


def _ratio_of_mean_percentiles(seconds, reference):
    mine, theirs = (
        np.percentile(x, 99, axis=1).mean() for x in map(np.asarray, (seconds, reference))
    )
    return float(mine / theirs)


def _ratio_of_means(seconds, reference):
    return float(np.mean(seconds) / np.mean(reference))


def _ratio_of_medians(seconds, reference):
    return float(np.median(seconds) / np.median(reference))


def _ratio_percentile_of_ratios(seconds, reference):
    return float(np.percentile(np.asarray(seconds) / np.asarray(reference), 99))


def _ratio_of_maxima(seconds, reference):
    return float(np.max(seconds) / np.max(reference))


def _ratio_upside_down(seconds, reference):
    return float(np.percentile(reference, 99) / np.percentile(seconds, 99))


def _ratio_of_a_share(seconds, reference):
    return float(np.percentile(seconds, 0.99) / np.percentile(reference, 0.99))


def _calls(rounds: int, calls: int, scale: float, tail: float, seed: int) -> np.ndarray:
    """Times of calls, a few of them slow, and one round slower than the others."""
    draw = np.random.default_rng(seed)
    seconds = scale * (1 + 0.1 * draw.random((rounds, calls)))
    slow = draw.random((rounds, calls)) < 0.03
    seconds[slow] *= tail * (1 + draw.random(slow.sum()))
    seconds[0] *= 1.7
    return seconds


def _ratio_cases() -> tuple[Case, ...]:
    return (
        Case((_calls(5, 40, 1e-4, 8, 0), _calls(5, 40, 4e-4, 2, 1)), label="a long tail"),
        Case((_calls(4, 30, 3e-4, 3, 2), _calls(4, 30, 3e-4, 5, 3)), label="equal bodies"),
        Case((_calls(3, 50, 9e-4, 2, 4), _calls(3, 50, 2e-4, 6, 5)), label="slower, steadier"),
    )


# --- find the bug: the choice --------------------------------------------------------------------


def choose(plans: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str | None:
    kept = [
        plan
        for plan in plans
        if plan["accuracy"] >= limits["accuracy"]
        and plan["p99"] <= limits["p99"]
        and plan["kilobytes"] <= limits["kilobytes"]
    ]
    return min(kept, key=lambda plan: plan["kilobytes"])["name"] if kept else None


def choose_by_test(plans, limits):
    """What the exercise starts with."""
    kept = [
        plan
        for plan in plans
        if plan["test"] >= limits["accuracy"]
        and plan["p99"] <= limits["p99"]
        and plan["kilobytes"] <= limits["kilobytes"]
    ]
    return min(kept, key=lambda plan: plan["kilobytes"])["name"] if kept else None


def _keeps(plan, limits, *, accuracy="accuracy", p99="p99", kilobytes="kilobytes"):
    return (
        plan[accuracy] >= limits["accuracy"]
        and plan[p99] <= limits["p99"]
        and plan[kilobytes] <= limits["kilobytes"]
    )


def _choose(limits_kept: Callable, key: Callable, otherwise: Callable | None = None) -> Callable:
    def wrong(plans, limits):
        kept = [plan for plan in plans if limits_kept(plan, limits)]
        if not kept and otherwise is not None:
            return otherwise(plans)
        return min(kept, key=key)["name"] if kept else None

    return wrong


_smallest = lambda plan: plan["kilobytes"]  # noqa: E731
_choose_best_of_test = _choose(_keeps, lambda plan: -plan["test"])
_choose_both = _choose(
    lambda plan, limits: _keeps(plan, limits) and plan["test"] >= limits["accuracy"], _smallest
)
_choose_median_time = _choose(lambda plan, limits: _keeps(plan, limits, p99="p50"), _smallest)
_choose_no_time = _choose(
    lambda plan, limits: _keeps(plan, {**limits, "p99": float("inf")}), _smallest
)
_choose_fp32_size = _choose(
    lambda plan, limits: _keeps(plan, limits, kilobytes="fp32_kilobytes"), _smallest
)
_choose_most_accurate = _choose(_keeps, lambda plan: -plan["accuracy"])
_choose_strictly = _choose(
    lambda plan, limits: (
        plan["accuracy"] > limits["accuracy"]
        and plan["p99"] < limits["p99"]
        and plan["kilobytes"] < limits["kilobytes"]
    ),
    _smallest,
)
_choose_something = _choose(
    _keeps, _smallest, lambda plans: max(plans, key=lambda plan: plan["accuracy"])["name"]
)


def _row(name, accuracy, test, p50, p99, kilobytes, fp32_kilobytes):
    return {"name": name, "accuracy": accuracy, "test": test, "p50": p50, "p99": p99,
            "kilobytes": kilobytes, "fp32_kilobytes": fp32_kilobytes}  # fmt: skip


def _choice_cases() -> tuple[Case, ...]:
    plans = [
        _row("A", 0.955, 0.930, 0.10, 0.20, 90.0, 260.0),  # keeps all; the test disagrees
        _row("B", 0.948, 0.962, 0.08, 0.15, 60.0, 60.0),  # the test's favourite
        _row("C", 0.960, 0.955, 0.09, 0.18, 110.0, 95.0),  # keeps all but the size
        _row("D", 0.952, 0.951, 0.12, 0.41, 40.0, 40.0),  # a tail
        _row("E", 0.971, 0.949, 0.20, 0.24, 99.0, 300.0),  # the most accurate within
        _row("G", 0.951, 0.951, 0.50, 0.60, 30.0, 30.0),  # slow throughout
        _row("F", 0.985, 0.980, 0.90, 0.95, 700.0, 700.0),  # the best, far outside
    ]
    limits = {"accuracy": 0.95, "p99": 0.25, "kilobytes": 100.0}
    on_the_line = [
        _row("A", 0.950, 0.948, 0.20, 0.25, 100.0, 100.0),
        _row("B", 0.990, 0.960, 0.24, 0.26, 20.0, 20.0),
    ]
    both = [
        _row("A", 0.953, 0.949, 0.1, 0.2, 50.0, 50.0),
        _row("B", 0.951, 0.960, 0.1, 0.2, 70.0, 70.0),
        _row("C", 0.956, 0.952, 0.1, 0.2, 80.0, 80.0),
    ]
    return (
        Case((plans, limits), label="seven plans"),
        Case((on_the_line, limits), label="a plan exactly on all limits"),
        Case((both, limits), label="three plans within, one of them weak in the test"),
        Case((plans[1:2] + plans[3:4] + plans[6:], limits), label="no plan keeps all limits"),
    )


# --- an alarm on purpose -------------------------------------------------------------------------


def first_alarm(p_values: Any, alpha: float, patience: int) -> int | None:
    in_a_row = 0
    for window, row in enumerate(p_values):
        in_a_row = in_a_row + 1 if min(row) < alpha / len(row) else 0
        if in_a_row == patience:
            return window
    return None


def _alarm_uncorrected(p_values, alpha, patience):
    return first_alarm(p_values, alpha * len(p_values[0]), patience)


def _alarm_by_windows(p_values, alpha, patience):
    return first_alarm(p_values, alpha * len(p_values[0]) / len(p_values), patience)


def _alarm_at_once(p_values, alpha, patience):
    return first_alarm(p_values, alpha, 1)


def _alarm_never_forgets(p_values, alpha, patience):
    drifted = [window for window, row in enumerate(p_values) if min(row) < alpha / len(row)]
    return drifted[patience - 1] if len(drifted) >= patience else None


def _alarm_at_the_first(p_values, alpha, patience):
    found = first_alarm(p_values, alpha, patience)
    return None if found is None else found - patience + 1


def _alarm_one_more(p_values, alpha, patience):
    return first_alarm(p_values, alpha, patience + 1)


def _alarm_by_the_mean(p_values, alpha, patience):
    return first_alarm([[float(np.mean(row))] for row in p_values], alpha, patience)


def _alarm_count(p_values, alpha, patience):
    found = first_alarm(p_values, alpha, patience)
    return None if found is None else found + 1


_ALARM_CASES = (
    Case(([[0.5, 0.04, 0.9], [0.02, 0.6, 0.7], [0.001, 0.8, 0.5], [0.4, 0.002, 0.3]], 0.05, 2),
         label="two clear windows at the end"),
    Case(([[0.01, 0.9], [0.5, 0.5], [0.01, 0.9], [0.5, 0.4], [0.3, 0.02]], 0.05, 2),
         label="drifted windows, never two in a row"),
    Case(([[0.001, 0.9], [0.9, 0.002], [0.003, 0.9], [0.8, 0.001], [0.7, 0.7]], 0.05, 3),
         label="three in a row, of five"),
    Case(([[0.03, 0.04, 0.045, 0.049], [0.03, 0.04, 0.045, 0.049]], 0.05, 1),
         label="many p-values just below alpha"),
    Case(([[0.5, 0.6], [0.7, 0.7], [0.8, 0.5], [0.02, 0.7]], 0.05, 1),
         label="the last window drifts"),
)  # fmt: skip


# --- the canary ----------------------------------------------------------------------------------


def _fisher(bad: int, total: int, other_bad: int, other_total: int) -> float:
    """How likely are at least so many bad ones in the first group if both are equally good?"""
    from scipy.stats import fisher_exact

    table = [[bad, total - bad], [other_bad, other_total - other_bad]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def canary_decision(
    stable: tuple[int, int], canary: tuple[int, int], at_least: int, alpha: float
) -> str:
    (stable_wrong, stable_all), (wrong, every) = stable, canary
    if every < at_least:
        return "wait"
    if _fisher(wrong, every, stable_wrong, stable_all) < alpha:
        return "roll back"
    if _fisher(stable_wrong, stable_all, wrong, every) < alpha:
        return "keep"
    return "wait"


def _canary_not_worse(stable, canary, at_least, alpha):
    found = canary_decision(stable, canary, at_least, alpha)
    return "keep" if found == "wait" and canary[1] >= at_least else found


def _canary_impatient(stable, canary, at_least, alpha):
    return canary_decision(stable, canary, 0, alpha)


def _canary_by_rates(stable, canary, at_least, alpha):
    if canary[1] < at_least:
        return "wait"
    return "keep" if canary[0] / canary[1] < stable[0] / stable[1] else "roll back"


def _canary_by_counts(stable, canary, at_least, alpha):
    if canary[1] < at_least:
        return "wait"
    return "keep" if canary[0] < stable[0] else "roll back"


def _canary_turned(stable, canary, at_least, alpha):
    swap = {"keep": "roll back", "roll back": "keep", "wait": "wait"}
    return swap[canary_decision(stable, canary, at_least, alpha)]


def _canary_never_kept(stable, canary, at_least, alpha):
    found = canary_decision(stable, canary, at_least, alpha)
    return "wait" if found == "keep" else found


def _canary_right_for_wrong(stable, canary, at_least, alpha):
    return canary_decision(
        (stable[0], stable[0] + stable[1]), (canary[0], canary[0] + canary[1]), at_least, alpha
    )


_CANARY_CASES = (
    Case(((40, 100), (0, 12), 30, 0.01), label="no error so far, but few answers"),
    Case(((40, 100), (12, 12), 30, 0.01), label="all wrong so far, but few answers"),
    Case(((30, 100), (20, 40), 30, 0.01), label="somewhat worse, which may be chance"),
    Case(((30, 100), (34, 60), 30, 0.01), label="clearly worse"),
    Case(((52, 140), (11, 60), 30, 0.01), label="clearly better"),
    Case(((30, 100), (15, 60), 30, 0.01), label="hardly better"),
    Case(((3, 300), (9, 90), 30, 0.01), label="ten times the errors, fewer answers"),
    Case(((30, 100), (20, 30), 30, 0.01), label="clearly worse, just enough answers"),
)  # fmt: skip


# --- the open task: a plan within the client's limits --------------------------------------------


def _grade_plan(plan: Any) -> Verdict:
    """Any plan that keeps the client's limits is right; the others read what they miss."""
    from zoo_lessons.deploy.brief import CLIENT, recorded_table, said

    if not isinstance(plan, Plan):
        return Verdict(False, f"Give a Plan(model, training, precision), got {plan!r}.")
    table = recorded_table()
    if plan not in table:
        names = {one.model for one in table}
        close = [str(one) for one in table if one.model == plan.model]
        return Verdict(
            False,
            f"Nobody measured {plan}. Measured were: {'; '.join(close or sorted(names))}.",
        )
    short = missed(table[plan], CLIENT)
    if short:
        about = f"{plan} misses {said(short)}."
        named = {"accuracy": "not accurate enough", "kilobytes": "too large"}
        return Verdict(False, about, next((named[one] for one in short if one in named), ""))
    return Verdict(True, f"{plan} keeps all four limits. Now defend it: what does it cost?")


def _mistakes(*rows: tuple[str, Any, str]) -> tuple[Mistake, ...]:
    return tuple(Mistake(*row) for row in rows)


EXERCISES = (
    Exercise(
        id="23.p99_ratio",
        title="A tail against the reference's",
        reference=p99_ratio,
        cases=_ratio_cases,
        mistakes=_mistakes(
            (
                "mean of ratios",
                _ratio_mean_of_rounds,
                "You take a ratio in each round, and average. A round has few calls, and one slow "
                "call of the reference in it moves everything. Pool the calls first, divide last.",
            ),
            (
                "mean of percentiles",
                _ratio_of_mean_percentiles,
                "Percentiles of rounds cannot be averaged (lesson 21, exercise 4): the slowest 1 % "
                "of all calls may lie in one round.",
            ),
            (
                "means",
                _ratio_of_means,
                "A mean hides the slow calls. The client's limit is on the 99th percentile.",
            ),
            ("medians", _ratio_of_medians, "Half of the letters wait longer than the median."),
            (
                "percentile of ratios",
                _ratio_percentile_of_ratios,
                "You divide call by call: the tenth call of one by the tenth call of the other. "
                "They have nothing to do with each other.",
            ),
            ("maxima", _ratio_of_maxima, "One unlucky call decides it. Ask for 99 of 100."),
            (
                "upside down",
                _ratio_upside_down,
                "Below 1 must mean quicker than the reference.",
            ),
            (
                "0.99 of one percent",
                _ratio_of_a_share,
                "`np.percentile` counts from 0 to 100. You asked for the quickest calls.",
            ),
        ),
        praise="Pooled first, divided last.",
    ),
    Exercise(
        id="23.choose",
        title="Find the bug: the choice",
        reference=choose,
        start=choose_by_test,
        cases=_choice_cases,
        mistakes=_mistakes(
            (
                "the test decides among those within",
                _choose_best_of_test,
                "The test digits still choose. What you choose by, you can no longer test with.",
            ),
            (
                "the test as one more limit",
                _choose_both,
                "A plan that fails the test is thrown out here, and another one gets its turn: the "
                "test has chosen. Open the envelope once, for the plan that is chosen already.",
            ),
            (
                "the median instead of p99",
                _choose_median_time,
                "`p50` is what half of the letters wait. The limit is on `p99`.",
            ),
            ("no limit on time", _choose_no_time, "One of the three limits is gone: which?"),
            (
                "the size of the float32 file",
                _choose_fp32_size,
                "That is the file before it was rounded. What is shipped has `kilobytes`.",
            ),
            (
                "the most accurate",
                _choose_most_accurate,
                "All of these are good enough: that is what the limit says. The rule then asks for "
                "the smallest file.",
            ),
            (
                "exactly on a limit",
                _choose_strictly,
                "At least 95 % includes 95 %: a plan on the line keeps the limit.",
            ),
            (
                "something is always chosen",
                _choose_something,
                "If no plan keeps all limits, say so: return None. The client must hear it before "
                "the box is built.",
            ),
        ),
        praise="The envelope stays closed.",
    ),
    Exercise(
        id="23.first_alarm",
        title="When does it ring?",
        reference=first_alarm,
        cases=_ALARM_CASES,
        mistakes=_mistakes(
            (
                "no correction",
                _alarm_uncorrected,
                "Each row holds several p-values, and the smallest of them is small by chance. "
                "Divide alpha by how many there are.",
            ),
            (
                "corrected for windows",
                _alarm_by_windows,
                "You divide by the number of windows. The tests that are made at once are those of "
                "one row; against many windows there is `patience`.",
            ),
            (
                "no patience",
                _alarm_at_once,
                "One window may drift by chance. Wait for `patience` of them in a row.",
            ),
            (
                "not in a row",
                _alarm_never_forgets,
                "You count all drifted windows since the start. One quiet window must set the "
                "count back to 0.",
            ),
            (
                "where it began",
                _alarm_at_the_first,
                "That window is where the row began. At that time nobody could know that more "
                "would follow: the alarm rings at the last one.",
            ),
            ("one too many", _alarm_one_more, "`patience` windows in a row are enough."),
            (
                "the mean of p-values",
                _alarm_by_the_mean,
                "One logit that differs clearly drowns among those that do not.",
            ),
            ("counted from 1", _alarm_count, "Windows are counted from 0."),
        ),
    ),
    Exercise(
        id="23.canary_decision",
        title="Keep, roll back, or wait",
        reference=canary_decision,
        cases=_CANARY_CASES,
        mistakes=_mistakes(
            (
                "not worse is not better",
                _canary_not_worse,
                "You keep whatever has not been shown to be worse. With few answers nothing can be "
                "shown. To keep it, ask whether the *stable* version is worse, by the same test.",
            ),
            (
                "impatient",
                _canary_impatient,
                "Below `at_least` answers nothing is decided, however they look.",
            ),
            (
                "rates without chance",
                _canary_by_rates,
                "Any difference decides here, even one that chance makes every second time.",
            ),
            (
                "counts instead of rates",
                _canary_by_counts,
                "The canary has fewer users, so fewer wrong answers. Compare shares.",
            ),
            ("turned around", _canary_turned, "Fewer wrong answers are better."),
            (
                "never kept",
                _canary_never_kept,
                "A canary that is clearly better must get everybody some day.",
            ),
            (
                "right for all",
                _canary_right_for_wrong,
                "The second number of each pair is how many answers were judged, wrong ones "
                "included.",
            ),
        ),
    ),
    Exercise(
        id="23.plan",
        title="Your plan",
        reference=Plan("small CNN", "distilled", "fp32"),
        grade=_grade_plan,
        mistakes=_mistakes(
            (
                "not accurate enough",
                Plan("ViT", "shifts", "INT8"),
                "Strangers are read too badly. What can the unlabelled images teach, and who could "
                "label them for nothing?",
            ),
            (
                "too large",
                Plan("CNN", "shifts + mixing", "fp32"),
                "It reads well enough. Fewer weights, or fewer bits for those that the quantizer "
                "can round: which of the two helps this model?",
            ),
        ),
    ),
)
