"""Exercises of lesson 21: padding, cache keys, canaries, percentiles, queues, retries, drift."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- a batch of texts of unlike length -----------------------------------------------------------


def text_vectors(hidden: Tensor, lengths: list[int]) -> Tensor:
    return torch.stack([h[:n].mean(dim=0) for h, n in zip(hidden, lengths, strict=True)])


def _vectors_with_padding(hidden, lengths):
    return hidden.mean(dim=1)


def _vectors_divided_by_longest(hidden, lengths):
    return torch.stack([h[:n].sum(dim=0) / len(h) for h, n in zip(hidden, lengths, strict=True)])


def _vectors_summed(hidden, lengths):
    return torch.stack([h[:n].sum(dim=0) for h, n in zip(hidden, lengths, strict=True)])


def _vectors_without_the_last(hidden, lengths):
    return torch.stack(
        [h[: max(1, n - 1)].mean(dim=0) for h, n in zip(hidden, lengths, strict=True)]
    )


def _vectors_cut_to_the_shortest(hidden, lengths):
    return hidden[:, : min(lengths)].mean(dim=1)


def _vectors_of_the_first_token(hidden, lengths):
    return hidden[:, 0]


def _vector_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def hidden(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        Case((hidden(3, 5, 4), [5, 2, 3]), label="three texts of 5, 2 and 3 tokens"),
        Case((hidden(2, 9, 3), [1, 9]), label="one token beside nine"),
        Case((hidden(4, 6, 2) + 10, [4, 4, 3, 5]), label="all shorter than the batch is wide"),
    )


# --- the key of a cached prediction --------------------------------------------------------------


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def cache_key(model: str, version: str, value: dict[str, Any]) -> str:
    return f"{model}:{version}:{_digest(json.dumps(value, sort_keys=True))}"


def _key_without_version(model, version, value):
    return f"{model}:{_digest(json.dumps(value, sort_keys=True))}"


def _key_without_model(model, version, value):
    return f"{version}:{_digest(json.dumps(value, sort_keys=True))}"


def _key_by_hash(model, version, value):
    return f"{model}:{version}:{hash(json.dumps(value, sort_keys=True))}"


def _key_in_given_order(model, version, value):
    return f"{model}:{version}:{_digest(json.dumps(value))}"


def _key_of_the_values(model, version, value):
    return f"{model}:{version}:{_digest(json.dumps(sorted(map(str, value.values()))))}"


def _key_of_the_text(model, version, value):
    return f"{model}:{version}:{_digest(str(value))}"


def _key_without_blanks(model, version, value):
    return f"{model}:{version}:{_digest(json.dumps(value, sort_keys=True, separators=(',', ':')))}"


def _key_without_escapes(model, version, value):
    return f"{model}:{version}:{_digest(json.dumps(value, sort_keys=True, ensure_ascii=False))}"


_KEY_CASES = (
    Case(("embed", "v1", {"text": "The cat sat on the mat"}), label="a text"),
    Case(("embed", "v2", {"text": "The cat sat on the mat"}), label="the same text, version 2"),
    Case(("digit", "v2", {"text": "The cat sat on the mat"}), label="the same text, other model"),
    Case(("m", "v1", {"b": [1, 2.5], "a": "é"}), label="two fields, b before a"),
    Case(("m", "v1", {"a": "é", "b": [1, 2.5]}), label="the same fields, a before b"),
    Case(("m", "v1", {"a": [1, 2.5], "b": "é"}), label="the values have changed places"),
)


# --- a canary's share ----------------------------------------------------------------------------


def choose_version(weights: dict[str, float], place: float) -> str:
    total, end = sum(weights.values()), 0.0
    for version in sorted(weights):
        end += weights[version] / total
        if place < end:
            return version
    return max(version for version, weight in weights.items() if weight > 0)


def _choose_not_normalised(weights, place):
    end = 0.0
    for version in sorted(weights):
        end += weights[version]
        if place < end:
            return version
    return max(weights)


def _choose_not_added_up(weights, place):
    total = sum(weights.values())
    for version in sorted(weights):
        if place < weights[version] / total:
            return version
    return max(weights)


def _choose_in_given_order(weights, place):
    total, end = sum(weights.values()), 0.0
    for version in weights:
        end += weights[version] / total
        if place < end:
            return version
    return list(weights)[-1]


def _choose_alike(weights, place):
    return sorted(weights)[int(place * len(weights))]


def _choose_the_heaviest(weights, place):
    return max(sorted(weights), key=weights.get)


def _choose_by_draw(weights, place):
    versions = sorted(weights)
    return random.choices(versions, [weights[version] for version in versions])[0]


_CHOICE_CASES = (
    Case(({"v1": 0.9, "v2": 0.1}, 0.85), label="90 % and 10 %, place 0.85"),
    Case(({"v1": 0.9, "v2": 0.1}, 0.95), label="90 % and 10 %, place 0.95"),
    Case(({"v1": 3, "v2": 1}, 0.8), label="weights 3 and 1, place 0.8"),
    Case(({"v2": 1, "v1": 1}, 0.2), label="v2 is named first, place 0.2"),
    Case(({"v1": 2, "v2": 3, "v3": 5}, 0.4), label="three versions, place 0.4"),
    Case(({"v1": 2, "v2": 3, "v3": 5}, 0.52), label="three versions, place 0.52"),
    Case(({"v1": 0, "v2": 4}, 0.0), label="a weight of 0"),
    Case(({"v1": 0.5, "v2": 0.5}, 0.1), label="halves, place 0.1"),
    Case(({"v1": 0.5, "v2": 0.5}, 0.6), label="halves, place 0.6"),
    Case(({"v1": 0.5, "v2": 0.5}, 0.3), label="halves, place 0.3"),
)


# --- a percentile over replicas ------------------------------------------------------------------


def p99(latencies: list[list[float]]) -> float:
    return float(np.percentile([wait for one in latencies for wait in one], 99))


def _p99_mean_of_percentiles(latencies):
    return float(np.mean([np.percentile(one, 99) for one in latencies]))


def _p99_weighted_mean(latencies):
    sizes = [len(one) for one in latencies]
    return float(np.average([np.percentile(one, 99) for one in latencies], weights=sizes))


def _p99_of_means(latencies):
    return float(np.percentile([np.mean(one) for one in latencies], 99))


def _p99_worst_replica(latencies):
    return float(max(np.percentile(one, 99) for one in latencies))


def _p99_as_a_share(latencies):
    return float(np.percentile([wait for one in latencies for wait in one], 0.99))


def _p99_median(latencies):
    return float(np.median([wait for one in latencies for wait in one]))


def _p99_maximum(latencies):
    return float(max(wait for one in latencies for wait in one))


def _percentile_cases() -> tuple[Case, ...]:
    generator = np.random.default_rng(0)

    def waits(count: int, scale: float) -> list[float]:
        return (scale * generator.lognormal(0, 0.5, size=count)).round(3).tolist()

    return (
        Case(([waits(500, 10), waits(20, 80)],), label="a busy quick replica, an idle slow one"),
        Case(([waits(40, 10), waits(60, 12), waits(30, 9)],), label="three replicas"),
        Case(([waits(300, 10)],), label="one replica"),
    )


# --- latency from the intended time --------------------------------------------------------------


def waits(intended: list[float], seconds: list[float]) -> list[float]:
    found, free = [], 0.0
    for due, takes in zip(intended, seconds, strict=True):
        free = max(due, free) + takes
        found.append(free - due)
    return found


def _waits_from_the_actual_sending(intended, seconds):
    return list(seconds)


def _waits_until_the_sending(intended, seconds):
    return [wait - takes for wait, takes in zip(waits(intended, seconds), seconds, strict=True)]


def _waits_never_idle(intended, seconds):
    ends = np.cumsum(seconds)
    return [float(end - due) for end, due in zip(ends, intended, strict=True)]


def _waits_ends(intended, seconds):
    return [due + wait for due, wait in zip(intended, waits(intended, seconds), strict=True)]


def _waits_forget_the_queue(intended, seconds):
    """Only the request right before is waited for, not those that it waited for itself."""
    ends = [due + takes for due, takes in zip(intended, seconds, strict=True)]
    starts = [max(due, end) for due, end in zip(intended[1:], ends, strict=False)]
    return [seconds[0]] + [
        start + takes - due
        for start, takes, due in zip(starts, seconds[1:], intended[1:], strict=True)
    ]


_WAIT_CASES = (
    Case(([0.0, 0.5, 1.0, 1.5], [0.1, 1.5, 0.1, 0.1]), label="one stall of 1.5 s"),
    Case(([1.0, 5.0, 5.2], [0.5, 0.5, 0.5]), label="idle times in between"),
    Case(([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.5, 0.25]), label="four at once"),
    Case(([2.0], [0.25]), label="a single request"),
)


# --- find the bug: a window that waits although the batch is full --------------------------------


def next_batch(
    arrivals: list[float], free: float, window: float, max_batch: int
) -> tuple[float, int]:
    opened = max(free, arrivals[0])
    start = opened + window
    if len(arrivals) >= max_batch:
        start = min(start, max(opened, arrivals[max_batch - 1]))
    return start, sum(time <= start for time in arrivals[:max_batch])


def patient_batch(
    arrivals: list[float], free: float, window: float, max_batch: int
) -> tuple[float, int]:
    """The bug: it waits for the end of the window, full or not."""
    opened = max(free, arrivals[0])
    start = opened + window
    return start, sum(time <= start for time in arrivals[:max_batch])


def _batch_before_it_is_free(arrivals, free, window, max_batch):
    start = arrivals[0] + window
    if len(arrivals) >= max_batch:
        start = min(start, arrivals[max_batch - 1])
    return start, sum(time <= start for time in arrivals[:max_batch])


def _batch_full_in_the_past(arrivals, free, window, max_batch):
    opened = max(free, arrivals[0])
    start = opened + window
    if len(arrivals) >= max_batch:
        start = min(start, arrivals[max_batch - 1])
    return start, sum(time <= start for time in arrivals[:max_batch])


def _batch_waits_for_one_more(arrivals, free, window, max_batch):
    opened = max(free, arrivals[0])
    start = opened + window
    if len(arrivals) > max_batch:
        start = min(start, max(opened, arrivals[max_batch]))
    return start, sum(time <= start for time in arrivals[:max_batch])


def _batch_without_a_limit(arrivals, free, window, max_batch):
    start, _ = next_batch(arrivals, free, window, max_batch)
    return start, sum(time <= start for time in arrivals)


def _batch_always_full(arrivals, free, window, max_batch):
    start, _ = next_batch(arrivals, free, window, max_batch)
    return start, min(max_batch, len(arrivals))


def _batch_never_waits(arrivals, free, window, max_batch):
    start = max(free, arrivals[0])
    return start, sum(time <= start for time in arrivals[:max_batch])


_BATCH_CASES = (
    Case(([0.0, 0.25, 0.5, 3.0], 0.0, 1.0, 8), label="three come within the window"),
    Case(([0.0, 0.25, 0.5, 0.75], 0.0, 1.0, 2), label="the second one fills the batch"),
    Case(([0.0, 0.1, 0.2, 0.3, 0.4], 5.0, 1.0, 4), label="busy while the batch filled up"),
    Case(([0.0, 5.5, 5.75], 5.0, 1.0, 2), label="busy, then one more fills it"),
    Case(([0.0, 0.0, 0.0], 0.0, 0.5, 3), label="as many at once as a batch holds"),
    Case(([1.0], 0.0, 0.25, 4), label="a single request"),
)


# --- retries -------------------------------------------------------------------------------------


class Flaky:
    """A replica that is lost `failures` times, then answers; or raises something else."""

    def __init__(self, failures: int, broken: bool = False):
        self.failures, self.broken, self.calls = failures, broken, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.broken:
            raise ValueError("the model cannot read this")
        if self.calls <= self.failures:
            raise ConnectionError("replica lost")
        return f"answer {self.calls}"


def _ask_again(ask: Callable[[], str], attempts: int) -> str:
    for _ in range(attempts - 1):
        try:
            return ask()
        except ConnectionError:
            continue
    return ask()


def answer_or_retry(ask: Callable[[], str], retries: int, idempotent: bool) -> str:
    return _ask_again(ask, retries + 1 if idempotent else 1)


def _retry_everything(ask, retries, idempotent):
    return _ask_again(ask, retries + 1)


def _retry_without_end(ask, retries, idempotent):
    return _ask_again(ask, 1000 if idempotent else 1)


def _retry_one_less(ask, retries, idempotent):
    return _ask_again(ask, max(1, retries) if idempotent else 1)


def _retry_one_more(ask, retries, idempotent):
    return _ask_again(ask, retries + 2 if idempotent else 1)


def _retry_never(ask, retries, idempotent):
    return ask()


def _retry_whatever_happened(ask, retries, idempotent):
    for _ in range(retries + 1 if idempotent else 1):
        try:
            return ask()
        except Exception:
            continue
    raise ConnectionError("gave up")


def _retry_gives_none(ask, retries, idempotent):
    for _ in range(retries + 1 if idempotent else 1):
        try:
            return ask()
        except ConnectionError:
            continue
    return "no answer"


_RETRY_CASES = (
    Case((Flaky(0), 2, True), label="the first one answers"),
    Case((Flaky(2), 2, True), label="lost twice, two retries"),
    Case((Flaky(1), 2, True), label="lost once, two retries"),
    Case((Flaky(3), 2, True), label="lost three times, two retries"),
    Case((Flaky(6), 2, True), label="lost six times, two retries"),
    Case((Flaky(1), 2, False), label="lost once, but asking twice would do harm"),
    Case((Flaky(0, broken=True), 3, True), label="the model itself fails"),
    Case((Flaky(1), 0, True), label="no retries allowed"),
)


# --- many tests at once --------------------------------------------------------------------------


def drift_decision(p_values: list[float], alpha: float) -> tuple[bool, float]:
    threshold = alpha / len(p_values)
    return min(p_values) < threshold, threshold


def _drift_uncorrected(p_values, alpha):
    return min(p_values) < alpha, alpha


def _drift_by_the_mean(p_values, alpha):
    return bool(np.mean(p_values) < alpha), alpha


def _drift_multiplied(p_values, alpha):
    return min(p_values) < alpha * len(p_values), alpha * len(p_values)


def _drift_all(p_values, alpha):
    threshold = alpha / len(p_values)
    return max(p_values) < threshold, threshold


def _drift_the_wrong_way(p_values, alpha):
    threshold = alpha / len(p_values)
    return min(p_values) > threshold, threshold


def _drift_by_count(p_values, alpha):
    return sum(p < alpha for p in p_values) > len(p_values) / 2, alpha / len(p_values)


_DRIFT_CASES = (
    Case(([0.3, 0.004, 0.8, 0.5], 0.01), label="0.004 among four, alpha 0.01"),
    Case(([0.3, 0.002, 0.8, 0.5], 0.01), label="0.002 among four, alpha 0.01"),
    Case(([0.5] * 47 + [1e-5], 0.05), label="one dimension of 48 differs clearly"),
    Case(([0.03], 0.05), label="a single dimension"),
    Case(([0.04, 0.03, 0.045, 0.9], 0.05), label="three of four below alpha, none far"),
    Case(([0.6, 0.7], 0.05), label="nothing differs"),
)


def _mistakes(*rows: tuple[str, Callable, str]) -> Sequence[Mistake]:
    return tuple(Mistake(*row) for row in rows)


EXERCISES = (
    Exercise(
        id="21.text_vectors",
        title="A batch of texts of unlike length",
        reference=text_vectors,
        cases=_vector_cases,
        mistakes=_mistakes(
            (
                "padding takes part",
                _vectors_with_padding,
                "You average over the whole width of the batch. What stands behind a text's last "
                "token is padding: a short text's vector would depend on its neighbours' length.",
            ),
            (
                "divided by the longest",
                _vectors_divided_by_longest,
                "The sum is right. But divide by the number of *this* text's tokens, not by the "
                "width of the batch.",
            ),
            ("a sum, not a mean", _vectors_summed, "Longer texts get longer vectors: divide."),
            (
                "the last token is missing",
                _vectors_without_the_last,
                "A slice ends before its end: `[:n]` holds n tokens.",
            ),
            (
                "cut to the shortest",
                _vectors_cut_to_the_shortest,
                "No padding is left, but the longer texts have lost their ends. Each text has its "
                "own length.",
            ),
            (
                "only the first token",
                _vectors_of_the_first_token,
                "That is the vector of the first token. MiniLM was trained to average over all.",
            ),
        ),
        praise="No vector depends on what else is in the batch.",
    ),
    Exercise(
        id="21.next_batch",
        title="Find the bug: the batch is full, and waits",
        reference=next_batch,
        start=patient_batch,
        cases=_BATCH_CASES,
        mistakes=_mistakes(
            (
                "starts before the replica is free",
                _batch_before_it_is_free,
                "The replica still computes until `free`. A batch cannot start before.",
            ),
            (
                "starts in the past",
                _batch_full_in_the_past,
                "If the batch became full while the replica was busy, it starts when the replica "
                "is free, not when the last request came.",
            ),
            (
                "waits for one more than fits",
                _batch_waits_for_one_more,
                "The batch is full when request number max_batch is there. Its index is one less.",
            ),
            (
                "more than a batch holds",
                _batch_without_a_limit,
                "The start is right, but you count requests that this batch has no room for.",
            ),
            (
                "counts requests that have not come yet",
                _batch_always_full,
                "Only requests that are there when the batch starts can be in it.",
            ),
            (
                "the window is gone",
                _batch_never_waits,
                "Now nobody waits for others: a batch that is not full should use its window.",
            ),
        ),
        praise="A full batch goes off at once, and nobody is in two places.",
    ),
    Exercise(
        id="21.waits",
        title="How long did the user wait?",
        reference=waits,
        cases=_WAIT_CASES,
        mistakes=_mistakes(
            (
                "coordinated omission",
                _waits_from_the_actual_sending,
                "You measure from the time at which the request was really sent. While the service "
                "stalled, the sender stood still, and its users waited: count from `intended`.",
            ),
            (
                "only until it was sent",
                _waits_until_the_sending,
                "You stop the clock when the request is sent. The user waits until the answer.",
            ),
            (
                "the service is never idle",
                _waits_never_idle,
                "You add up the seconds as if all requests were there from the start. No request "
                "is sent before it is due.",
            ),
            (
                "times instead of waits",
                _waits_ends,
                "These are the times of the answers. How long did each user wait for it?",
            ),
            (
                "only the request before is waited for",
                _waits_forget_the_queue,
                "The request before may itself have waited. Keep the time at which the sender is "
                "really free.",
            ),
        ),
    ),
    Exercise(
        id="21.p99",
        title="The 99th percentile of a service",
        reference=p99,
        cases=_percentile_cases,
        mistakes=_mistakes(
            (
                "mean of percentiles",
                _p99_mean_of_percentiles,
                "The replica with 20 requests counts as much as the one with 500. Percentiles "
                "cannot be averaged: pool the latencies first.",
            ),
            (
                "weighted mean of percentiles",
                _p99_weighted_mean,
                "Weights make it better, not right: the slowest 1 % of all requests may all come "
                "from one replica. Pool the latencies first.",
            ),
            (
                "percentile of means",
                _p99_of_means,
                "A mean hides the slow requests; then there is nothing left to find in the tail.",
            ),
            (
                "the worst replica's",
                _p99_worst_replica,
                "That is a bound from above. Most users never meet the worst replica's tail.",
            ),
            (
                "0.99 of one percent",
                _p99_as_a_share,
                "`np.percentile` counts from 0 to 100. You asked for the quickest requests.",
            ),
            ("the median", _p99_median, "Half of the users wait longer than that: not 1 %."),
            (
                "the maximum",
                _p99_maximum,
                "One unlucky request decides it. 1 % of all lie above the 99th percentile.",
            ),
        ),
    ),
    Exercise(
        id="21.cache_key",
        title="The key of a cached prediction",
        reference=cache_key,
        cases=_KEY_CASES,
        mistakes=_mistakes(
            (
                "no version",
                _key_without_version,
                "After a new version is rolled out, users would get the old one's answers for as "
                "long as they are kept.",
            ),
            (
                "no model",
                _key_without_model,
                "Two models that get the same input would give each other's answers.",
            ),
            (
                "Python's hash",
                _key_by_hash,
                "`hash()` of a text differs from process to process: after a restart nothing is "
                "found, and two routers never share an entry. And 64 bits can be made to collide.",
            ),
            (
                "order of the fields",
                _key_in_given_order,
                "The same input with its fields in another order gets another key. See what "
                "`json.dumps` offers for that.",
            ),
            (
                "values without their names",
                _key_of_the_values,
                "Two inputs whose values have changed places get the same key, and one of them "
                "gets a wrong answer.",
            ),
            (
                "Python's text of a dict",
                _key_of_the_text,
                "`str` of a dict keeps the order of its fields, and no other language can make "
                "the same key. Use JSON.",
            ),
            (
                "JSON without blanks",
                _key_without_blanks,
                "A good key, and the library's own has no blanks either. But all who share a cache "
                "must spell alike: here the text is what `json.dumps` writes by itself, blanks and "
                "all, with the fields in order.",
            ),
            (
                "JSON with é as it is",
                _key_without_escapes,
                "A good key. But all who share a cache must spell alike: here the text is what "
                "`json.dumps` writes by itself, with é as an escape.",
            ),
        ),
    ),
    Exercise(
        id="21.answer_or_retry",
        title="Ask again, but not for ever",
        reference=answer_or_retry,
        cases=_RETRY_CASES,
        mistakes=_mistakes(
            (
                "harm done twice",
                _retry_everything,
                "A replica that was lost may have done its work before. What is not idempotent "
                "(an order, a payment) must not be sent again.",
            ),
            (
                "without end",
                _retry_without_end,
                "When nothing answers, everybody asks for ever, and the service is busy with "
                "retries alone. Stop after `retries`.",
            ),
            (
                "one retry too few",
                _retry_one_less,
                "`retries` counts further attempts. The first one is not among them.",
            ),
            (
                "one retry too many",
                _retry_one_more,
                "One attempt and `retries` further ones: you make another on top.",
            ),
            (
                "no retry at all",
                _retry_never,
                "A lost replica is no reason to give up while others are there.",
            ),
            (
                "any error is retried",
                _retry_whatever_happened,
                "A `ValueError` comes from the model: every replica would raise it again, and the "
                "user never learns why. Catch `ConnectionError` only.",
            ),
            (
                "the failure is hidden",
                _retry_gives_none,
                "When all attempts have failed, the caller must learn of it: let the last error "
                "through.",
            ),
        ),
    ),
    Exercise(
        id="21.choose_version",
        title="A canary's share",
        reference=choose_version,
        cases=_CHOICE_CASES,
        mistakes=_mistakes(
            (
                "weights are not shares",
                _choose_not_normalised,
                "Weights of 3 and 1 mean 75 % and 25 %. Divide by their sum first.",
            ),
            (
                "shares are not added up",
                _choose_not_added_up,
                "Each version's share is a piece of the interval from 0 to 1. The second piece "
                "begins where the first one ends.",
            ),
            (
                "order of the dict",
                _choose_in_given_order,
                "The same weights in another order send users elsewhere. Go through the versions "
                "by name.",
            ),
            (
                "all alike",
                _choose_alike,
                "Every version gets as many users. What are the weights for?",
            ),
            (
                "always the heaviest",
                _choose_the_heaviest,
                "The canary never meets a user, so nobody learns whether it is good.",
            ),
            (
                "drawn anew",
                _choose_by_draw,
                "A draw per request sends the same user to and fro. `place` is the user's own, and "
                "decides alone.",
            ),
        ),
    ),
    Exercise(
        id="21.drift_decision",
        title="48 tests at once",
        reference=drift_decision,
        cases=_DRIFT_CASES,
        mistakes=_mistakes(
            (
                "no correction",
                _drift_uncorrected,
                "Each test alone cries wolf with probability alpha; with 48 of them, one nearly "
                "always does. Divide alpha by the number of tests.",
            ),
            (
                "the mean of p-values",
                _drift_by_the_mean,
                "One dimension that differs clearly drowns among those that do not.",
            ),
            (
                "multiplied instead of divided",
                _drift_multiplied,
                "More tests must make each of them stricter. Yours become more lenient.",
            ),
            (
                "all must differ",
                _drift_all,
                "It is drift if *some* dimension differs more than chance explains.",
            ),
            (
                "the wrong way round",
                _drift_the_wrong_way,
                "A small p-value means that chance hardly explains the difference.",
            ),
            (
                "a majority vote",
                _drift_by_count,
                "Drift in a few dimensions, however clear, is outvoted. Look at the smallest "
                "p-value.",
            ),
        ),
    ),
)
