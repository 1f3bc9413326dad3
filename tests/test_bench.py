"""Side-by-side timing: the statistics, the order, the control; memory and exponents."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from zoo_lessons import bench
from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent, peak_memory

MACHINE = {"device": "a test", "threads": 1, "torch": "2"}


def made_up(**seconds):
    control = seconds.pop("control")
    return Comparison({**seconds, CONTROL: control}, MACHINE)


def test_it_tells_sleeps_apart():
    result = compare(
        {
            "short": lambda: time.sleep(0.002),
            "long": lambda: time.sleep(0.006),
        },
        rounds=7,
        warmup=1,
        target_seconds=0.002,
    )
    assert result.median("short") >= 0.002
    assert result.median("long") >= 0.006
    assert result.verdict("long") == "slower"
    assert result.ratio("long") > 1.5
    assert result.names == ["short", "long"]
    assert result.rounds == 7


def test_ratios_are_taken_within_rounds():
    # The machine gets slower and slower, but "b" always takes twice as long as "a".
    a = [1.0, 2.0, 4.0, 8.0, 16.0]
    result = made_up(a=a, b=[2 * x for x in a], control=[1.1 * x for x in a])
    assert result.ratio("b") == 2.0
    assert result.interval("b") == (2.0, 2.0)
    assert result.ratio(CONTROL) == pytest.approx(1.1)


def test_the_interval_covers_the_true_median():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        a = generator.uniform(1, 2, 25)
        b = a * 0.8 * np.exp(generator.normal(0, 0.1, 25))
        low, high = made_up(a=list(a), b=list(b), control=list(a)).interval("b")
        covered += low <= 0.8 <= high
    assert 85 <= covered <= 100


@pytest.mark.parametrize(
    ("b", "control", "verdict"),
    [
        ([0.50, 0.52, 0.48], [1.0, 1.01, 0.99], "faster"),
        ([2.00, 2.10, 1.90], [1.0, 1.01, 0.99], "slower"),
        ([0.90, 1.10, 1.00], [1.0, 1.01, 0.99], "no clear difference"),
        ([0.90, 0.91, 0.92], [0.8, 1.00, 1.20], "no clear difference"),  # noise does as much
    ],
)
def test_a_verdict_needs_more_than_noise_does(b, control, verdict):
    assert made_up(a=[1.0, 1.0, 1.0], b=b, control=control).verdict("b") == verdict


def test_each_round_runs_every_candidate_and_the_first_twice_in_a_shuffled_order():
    calls = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}

    def orders(seed):
        calls.clear()
        compare(candidates, rounds=12, warmup=1, target_seconds=0.0, seed=seed)
        timed = calls[6:]  # after two calls of each for warm-up and calibration
        return ["".join(timed[i : i + 4]) for i in range(0, len(timed), 4)]

    first = orders(seed=0)
    assert len(first) == 12
    assert all(sorted(order) == list("aabc") for order in first)
    assert len(set(first)) > 3
    assert first == orders(seed=0) != orders(seed=1)


def test_fast_functions_are_called_until_the_target_is_reached():
    calls = []
    compare({"fast": lambda: calls.append(1)}, rounds=3, warmup=1, target_seconds=0.001)
    assert len(calls) > 100


def test_table_json_and_plot(tmp_path):
    result = made_up(
        naive=[0.01, 0.01, 0.01], fused=[0.005, 0.005, 0.005], control=[0.01, 0.01, 0.01]
    )
    lines = repr(result).splitlines()
    assert lines[1].split() == ["naive", "1.00", "(first)", "10", "ms"]
    assert lines[2].split() == ["fused", "0.50", "0.50", "to", "0.50", "5", "ms"]
    assert lines[3].startswith(CONTROL)
    assert lines[4] == "3 rounds on a test, 1 threads, torch 2"

    result.to_json(tmp_path / "result.json")
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["ratios"]["fused"] == 0.5
    assert stored["verdicts"] == {"fused": "faster"}
    assert Comparison.from_dict(stored) == result

    axes = result.plot("Two ways").axes[0]
    assert axes.get_title() == "Two ways"
    assert "'naive'" in axes.get_xlabel()
    assert [bar.get_width() for bar in axes.patches[:2]] == [1.0, 0.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["naive", "fused"]
    result.plot().savefig(tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("candidates", "options", "error", "message"),
    [
        ({}, {}, ValueError, "at least one candidate, got none"),
        ({"a": 3}, {}, TypeError, "candidate 'a' must be a function.*got int"),
        ({CONTROL: int}, {}, ValueError, "control's own name"),
        ({"a": int}, {"rounds": 2}, ValueError, "rounds=2"),
        ({"a": int}, {"warmup": 0}, ValueError, "warmup=0"),
    ],
)
def test_errors(candidates, options, error, message):
    with pytest.raises(error, match=message):
        compare(candidates, **options)


def test_machine_names_processor_and_versions():
    machine = bench.describe_machine()
    assert machine["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
    assert machine["device"] in (machine["processor"], machine["gpu"])
    assert machine["processor"]
    json.dumps(machine)


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the CPU's memory")
def test_peak_memory_is_exact_on_a_cpu(capfd):
    megabyte = 250_000  # float32 values

    def two_at_once():
        a = torch.zeros(megabyte)
        b = a + 1  # 2 MB
        del a
        return b * 2  # still 2 MB

    peak = peak_memory(two_at_once)
    assert 2_000_000 <= peak < 2_000_100  # the numbers 1 and 2 are tensors for a moment, too
    assert peak_memory(two_at_once) == peak
    assert peak_memory(lambda: torch.zeros(megabyte)) == 1_000_000
    assert peak_memory(lambda: None) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the CPU's memory")
def test_peak_memory_counts_the_backward_pass():
    layer = torch.nn.Linear(100, 100, bias=False)
    x = torch.randn(1000, 100)

    def forward_only():
        with torch.no_grad():
            layer(x)

    def with_backward():
        layer.weight.grad = None
        layer(x).sum().backward()

    assert peak_memory(forward_only) == 1000 * 100 * 4
    assert peak_memory(with_backward) >= 1000 * 100 * 4 + 100 * 100 * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_time_and_memory():
    x = torch.randn(2048, 2048, device="cuda")
    small = torch.randn(64, 64, device="cuda")
    result = compare({"large": lambda: x @ x, "small": lambda: small @ small}, rounds=9)
    assert result.verdict("small") == "faster"
    assert peak_memory(lambda: x + 1) == 2048 * 2048 * 4


def test_an_exact_power_law_is_found():
    sizes = [16, 32, 64, 128, 256]
    exponent, (low, high) = fit_exponent(sizes, [3e-6 * n**2 for n in sizes])
    assert exponent == pytest.approx(2)
    assert low == pytest.approx(2) and high == pytest.approx(2)


def test_the_exponents_interval_covers_the_truth():
    generator = np.random.default_rng(0)
    sizes = 2.0 ** np.arange(4, 12)
    covered = 0
    for _ in range(200):
        times = sizes**1.5 * np.exp(generator.normal(0, 0.2, len(sizes)))
        exponent, (low, high) = fit_exponent(sizes, times)
        assert low < exponent < high
        covered += low <= 1.5 <= high
    assert 180 <= covered <= 200


@pytest.mark.parametrize(
    ("sizes", "costs", "message"),
    [
        ([1, 2, 3], [1, 2], "3 sizes and 2 costs"),
        ([1, 2], [1, 2], "at least 3 points, got 2"),
        ([1, 2, 3], [1, 0, 2], "must be positive, got 0"),
        ([4, 4, 4], [1, 2, 3], "all sizes are 4"),
    ],
)
def test_exponent_errors(sizes, costs, message):
    with pytest.raises(ValueError, match=message):
        fit_exponent(sizes, costs)


def test_importing_it_opens_no_window():
    code = "import zoo_lessons.bench, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
