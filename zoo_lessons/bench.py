"""Fair comparisons of time and memory.

A time by itself says little: the next run, or another program on the same machine, changes it. What
can be trusted is a ratio of times that were taken side by side. `compare` therefore

- runs the candidates in turns, round after round, in an order shuffled anew for each round, so that
  a slow spell hits all of them;
- takes the ratio to the first candidate within each round, and reports the median of those ratios
  with a 95 % bootstrap interval (Efron & Tibshirani 1993, chapter 13);
- times the first candidate twice in each round. The ratio of its two times, the A/A control, shows
  what noise alone does on this machine at this moment.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

CONTROL = "same again (A/A control)"
BOOTSTRAP_SAMPLES = 2000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Times of several candidates, taken side by side.

    Attributes:
        seconds: for each name the seconds per call, one number per round. The last name is
            `CONTROL`: the first candidate, timed a second time.
        machine: what it ran on, as `describe_machine` says.
    """

    seconds: dict[str, list[float]]
    machine: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The candidates, without the control."""
        return [name for name in self.seconds if name != CONTROL]

    @property
    def rounds(self) -> int:
        return len(self.seconds[CONTROL])

    def median(self, name: str) -> float:
        """Median seconds per call."""
        return float(np.median(self.seconds[name]))

    def ratio(self, name: str) -> float:
        """Median over the rounds of this time over the first candidate's time."""
        return float(np.median(self._ratios(name)))

    def interval(self, name: str) -> Interval:
        """95 % bootstrap interval of `ratio`: the medians of resampled rounds."""
        ratios = self._ratios(name)
        rows = np.random.default_rng(0).integers(len(ratios), size=(BOOTSTRAP_SAMPLES, len(ratios)))
        low, high = np.quantile(np.median(ratios[rows], axis=1), [0.025, 0.975])
        return float(low), float(high)

    def verdict(self, name: str) -> str:
        """How it compares with the first: "faster", "slower", or "no clear difference".

        A difference is clear if the whole interval lies beyond 1 and beyond the control's interval.
        """
        low, high = self.interval(name)
        noise_low, noise_high = self.interval(CONTROL)
        if high < min(1.0, noise_low):
            return "faster"
        return "slower" if low > max(1.0, noise_high) else "no clear difference"

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-able: the figures and the times they come from."""
        return {
            "first": self.names[0],
            "rounds": self.rounds,
            "ratios": {name: self.ratio(name) for name in self.seconds},
            "intervals": {name: list(self.interval(name)) for name in self.seconds},
            "verdicts": {name: self.verdict(name) for name in self.names[1:]},
            "median_seconds": {name: self.median(name) for name in self.seconds},
            "seconds": self.seconds,
            "machine": self.machine,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """A comparison that `as_dict` or `to_json` has stored."""
        return cls(seconds=dict(values["seconds"]), machine=dict(values["machine"]))

    def to_json(self, path: str | Path) -> None:
        """Write `as_dict` to a file."""
        Path(path).write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")

    def plot(self, title: str | None = None) -> Figure:
        """Bars of the ratios with their intervals; the grey band is the A/A control's interval."""
        names = self.names
        ratios = np.array([self.ratio(name) for name in names])
        lows, highs = np.array([self.interval(name) for name in names]).T
        labels = [f"{self.ratio(name):.2f} ({_time(self.median(name))})" for name in names]
        figure = Figure(figsize=(7, 1.2 + 0.45 * len(names)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(names, ratios, xerr=[ratios - lows, highs - ratios], capsize=3)
        axes.bar_label(bars, labels, padding=4)
        axes.axvspan(*self.interval(CONTROL), color="grey", alpha=0.4, label="noise (A/A control)")
        axes.invert_yaxis()
        axes.margins(x=0.3)
        axes.set_xlabel(f"time / time of {names[0]!r} (median, 95 % interval; lower is faster)")
        axes.set_title(title or f"Time side by side on {self.machine['device']}", wrap=True)
        figure.legend(loc="outside lower right")
        return figure

    def __repr__(self) -> str:
        """A table, ratios first."""
        width = max(len(name) for name in self.seconds)
        lines = [f"{'':{width}}  ratio  95 % interval  median time"]
        for position, name in enumerate(self.seconds):
            low, high = self.interval(name)
            interval = f"{low:.2f} to {high:.2f}" if position else "(first)"
            median = _time(self.median(name))
            lines.append(f"{name:{width}}  {self.ratio(name):5.2f}  {interval:13}  {median:>11}")
        machine = self.machine
        lines.append(
            f"{self.rounds} rounds on {machine['device']}, {machine['threads']} threads, "
            f"torch {machine['torch']}"
        )
        return "\n".join(lines)

    def _ratios(self, name: str) -> np.ndarray:
        return np.array(self.seconds[name]) / np.array(self.seconds[self.names[0]])


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 21,
    warmup: int = 3,
    target_seconds: float = 0.02,
    seed: int = 0,
) -> Comparison:
    """Time the candidates side by side, interleaved.

    Args:
        candidates: functions without arguments, by name. Ratios are to the first.
        rounds: how often each candidate is timed.
        warmup: calls of each candidate before the first round.
        target_seconds: a fast candidate is called several times in a row and timed as a whole, so
            that one timing takes about this long; shorter ones drown in the clock's own noise.
        seed: of the order of the candidates in each round.

    Raises:
        ValueError: no candidate, fewer than 3 rounds, no warm-up, or a reserved name.
        TypeError: a candidate is not callable.
    """
    _check_candidates(candidates, rounds, warmup)
    first = next(iter(candidates))
    repeats = {
        name: _repeats(function, warmup, target_seconds) for name, function in candidates.items()
    }
    functions = {**candidates, CONTROL: candidates[first]}
    repeats[CONTROL] = repeats[first]
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffler = list(functions), random.Random(seed)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            with _no_garbage_collection():
                seconds[name].append(_time_calls(functions[name], repeats[name]))
    return Comparison(seconds, describe_machine())


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads, GPU and versions, JSON-able. `device` names the GPU or the CPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    processor = processor_name()
    return {
        "device": gpu or processor,
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def processor_name() -> str:
    """The processor's model name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory(function: Callable[[], object]) -> int:
    """Bytes by which PyTorch's memory grows at most during one call, above what it held before.

    On a GPU, CUDA's allocator keeps count. On a CPU, PyTorch's profiler reports every allocation of
    a tensor. That count is the same in every run, but leaves out memory that libraries take for
    themselves (scratch space of a matrix product, say).
    """
    function()  # what is allocated only once, such as caches, does not count
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    with (
        _no_garbage_collection(),
        _silent_stderr(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile,
    ):
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    ]
    held = np.cumsum([0] + [change for _, change in sorted(changes)])
    return int(held.max())


def fit_exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, Interval]:
    """The exponent p of `cost = constant * size ** p`, with its 95 % confidence interval.

    Least squares on the logarithms; the interval is Student's, for `len(sizes) - 2` degrees of
    freedom. It covers noise around a power law, not the doubt whether it is one: look at the plot.

    Raises:
        ValueError: lengths differ, fewer than 3 points, a value that is not positive, or all sizes
            equal.
    """
    if len(sizes) != len(costs):
        raise ValueError(f"got {len(sizes)} sizes and {len(costs)} costs")
    if len(sizes) < 3:
        raise ValueError(f"an exponent with an interval needs at least 3 points, got {len(sizes)}")
    if min(*sizes, *costs) <= 0:
        raise ValueError(f"sizes and costs must be positive, got {min(*sizes, *costs)}")
    if len(set(sizes)) == 1:
        raise ValueError(f"all sizes are {sizes[0]}: the exponent cannot be seen")
    line = stats.linregress(np.log(sizes), np.log(costs))
    margin = stats.t.ppf(0.975, len(sizes) - 2) * line.stderr
    return float(line.slope), (float(line.slope - margin), float(line.slope + margin))


def _check_candidates(candidates: Mapping[str, Any], rounds: int, warmup: int) -> None:
    if not candidates:
        raise ValueError("compare needs at least one candidate, got none")
    if CONTROL in candidates:
        raise ValueError(
            f"{CONTROL!r} is the control's own name: call the candidate something else"
        )
    for name, function in candidates.items():
        if not callable(function):
            raise TypeError(
                f"candidate {name!r} must be a function without arguments, "
                f"got {type(function).__name__}: did you call it, instead of passing it?"
            )
    if rounds < 3:
        raise ValueError(f"rounds={rounds} must be at least 3 to give an interval")
    if warmup < 1:
        raise ValueError(f"warmup={warmup} must be at least 1")


def _repeats(function: Callable[[], object], warmup: int, target_seconds: float) -> int:
    """Warm up, and see how many calls make up one timing."""
    _time_calls(function, 1)
    fastest = min(_time_calls(function, 1) for _ in range(warmup))
    return max(1, math.ceil(target_seconds / max(fastest, 1e-9)))


def _time_calls(function: Callable[[], object], repeats: int) -> float:
    """Seconds per call. A GPU works on after a call returns, so it is waited for."""
    _wait_for_gpu()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    _wait_for_gpu()
    return (time.perf_counter() - start) / repeats


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python must not pause one candidate to collect another one's garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what the profiler's C++ code writes to stderr when it starts and stops."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


if __name__ == "__main__":  # python -m zoo_lessons.bench gpu
    from zoo_lessons.gpu_bench import main

    raise SystemExit(main(sys.argv[1:]))
