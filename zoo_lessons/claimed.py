"""The claims that name a number: what the articles say, and what the records hold.

Nothing is measured here, and no figure of ours is written down: each is read from its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo_lessons.records import load_record

Pair = tuple[float, float]
MEAN_INTERVAL, BOOTSTRAP = "95 % interval over seeds", "95 % interval over rounds"
FITTED, SEEDS, COUNTED = "95 % interval of the fit", "lowest and highest seed", "counted"


@dataclass(frozen=True)
class Number:
    """A number that a claim names, beside ours.

    Attributes:
        claim: its id.
        what: the quantity, with its unit.
        claimed: the lowest and the highest value that the claim allows; often they are equal.
        measured: ours, or None where there is no measurement.
        spread: (low, high) around ours, or None.
        kind: what the spread is, or how the number came about.
        record: the name of the record that holds it.
        at_least: the claim is a lower bound.
    """

    claim: str
    what: str
    claimed: Pair
    measured: float | None
    spread: Pair | None
    kind: str
    record: str
    at_least: bool = False

    @property
    def centre(self) -> float:
        """The claimed value; of a range, the geometric mean of its ends."""
        low, high = self.claimed
        return (low * high) ** 0.5

    @property
    def ratio(self) -> float | None:
        """Ours over the claimed value."""
        return None if self.measured is None else self.measured / self.centre

    @property
    def within(self) -> bool:
        """Whether ours, with its spread, meets the claimed value or range.

        A figure without a spread meets it within 2 %, as the articles round. A lower bound is met
        when all of the spread lies above it.
        """
        if self.measured is None:
            return False
        low, high = self.spread or (0.98 * self.measured, 1.02 * self.measured)
        if self.at_least:
            return low >= self.claimed[0]
        return low <= self.claimed[1] and high >= self.claimed[0]


def claimed_numbers() -> list[Number]:
    """All of them, in the claims' order.

    Raises:
        FileNotFoundError: a record is missing.
    """
    return [
        *_exponents(),
        *_headline(),
        *_patches(),
        _temperature(),
        *_bert(),
        _gpu(),
        _onnx_runtime(),
        _modalities(),
    ]


def _exponents() -> list[Number]:
    fits = load_record("c09_length")["figures"]["exponent_of_time"]
    found = []
    for way, claimed in (("full, fused", 2), ("window", 1), ("linear", 1)):
        fit = fits[way]["long"]
        what = f"exponent of time, {way.replace('full', 'full attention')}"
        spread = tuple(fit["interval"])
        found.append(
            Number("C09", what, (claimed, claimed), fit["value"], spread, FITTED, "c09_length")
        )
    return found


def _headline() -> list[Number]:
    timed = load_record("int8_headline_time")["figures"]
    both, first = timed["both"], timed["baseline"]
    less, keeps = timed["article"]["less"], timed["article"]["keeps"]
    trained = load_record("int8_headline")["figures"]
    judged = next(case for case in timed["cases"] if case["tokens"] == trained["length"])
    low, high = judged["interval"][both]
    quality = trained["variants"]
    mean, lowest, highest = (value / quality[first]["all"][0] for value in quality[both]["all"])
    return [
        Number("C15", "latency saved, share", (less, less), 1 - judged["ratio"][both],
               (1 - high, 1 - low), BOOTSTRAP, "int8_headline_time"),
        Number("C15", "accuracy kept, share (at least)", (keeps, keeps), mean,
               (lowest, highest), MEAN_INTERVAL, "int8_headline", at_least=True),
    ]  # fmt: skip


def _patches() -> list[Number]:
    found = load_record("c16_patches")["figures"]["photograph"]
    return [
        Number("C16", what, (value, value), found[key], None, COUNTED, "c16_patches")
        for what, key, value in (
            ("patches of an image", "patches", 196),
            ("values of a patch", "values", 768),
        )
    ]


def _temperature() -> Number:
    ends = load_record("c20_clip")["figures"]["temperature"]["learned"]["temperature"]
    spread = (min(ends), max(ends))
    return Number("C20", "temperature after training", (0.07, 0.07), sum(ends) / len(ends),
                  spread, SEEDS, "c20_clip")  # fmt: skip


def _bert() -> list[Number]:
    found = load_record("c24_bert_figures")["figures"]
    speedup, spread = _speedup(found["int8"]["way"])
    return [
        Number("C24", "BERT's parameters, millions", (110, 110), found["parameters"] / 1e6,
               None, COUNTED, "c24_bert_figures"),
        Number("C24", "fewer in DistilBERT, share", (0.4, 0.4), found["distilbert_fewer"],
               None, COUNTED, "c24_bert_figures"),
        Number("C24", "speed-up by INT8", (3, 4), speedup, spread, BOOTSTRAP, "int8_latency"),
    ]  # fmt: skip


def _gpu() -> Number:
    best = load_record("c25_gpu")["figures"]["best"]
    measured = best and best["ratio"]
    return Number("C25", "throughput, FP16 on a GPU", (2.3, 2.3), measured, None,
                  "one run" if best else "not measurable here", "c25_gpu")  # fmt: skip


def _onnx_runtime() -> Number:
    ways = _bert_base()["ways"]
    best = max((way for way in ways if way.startswith("ONNX Runtime INT8")),
               key=lambda way: ways[way]["speedup"])  # fmt: skip
    speedup, spread = _speedup(best)
    claimed = 120 / 35
    return Number("C26", "speed-up, ONNX Runtime INT8", (claimed, claimed), speedup, spread,
                  BOOTSTRAP, "int8_latency")  # fmt: skip


def _modalities() -> Number:
    found = load_record("c30_three_models")["figures"]
    claimed = found["claimed"]
    return Number("C30", "modalities of Flamingo", (claimed, claimed), len(found["modalities"]),
                  None, COUNTED, "c30_three_models")  # fmt: skip


def _bert_base() -> Mapping[str, Any]:
    """The case that C24 and C26 are about: one text of 128 tokens."""
    cases = load_record("int8_latency")["figures"]["cases"]
    wanted = ("BERT-Base", 1, 128)
    return next(c for c in cases if (c["model"], c["batch"], c["tokens"]) == wanted)


def _speedup(way: str) -> tuple[float, Pair]:
    """A way's speed-up against the tuned baseline, and the interval of its ratio, turned over."""
    found = _bert_base()["ways"][way]
    low, high = found["interval"]
    return found["speedup"], tuple(found["speedup"] * found["ratio"] / end for end in (high, low))
