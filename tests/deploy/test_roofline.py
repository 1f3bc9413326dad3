"""Costs, bounds, and the traffic that a function causes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.deploy.roofline import (
    Cost,
    Roofline,
    best_seconds,
    copy_bandwidth,
    count_traffic,
    elementwise_cost,
    matmul_cost,
    matmul_rate,
    measure_roofline,
    rotate,
)


def test_cost_of_a_product():
    cost = matmul_cost(2, 3, 5)
    assert cost == Cost(60, 4 * (6 + 15), 4 * 10)
    assert cost.intensity == 60 / 124
    assert matmul_cost(64, 64, 64).intensity == pytest.approx(64 / 6)
    assert matmul_cost(64, 64, 64, 2).intensity == pytest.approx(64 / 3)


def test_cost_of_elements_and_sums():
    assert elementwise_cost(10, inputs=2, flops_each=3) == Cost(30, 80, 40)
    assert elementwise_cost(10) + elementwise_cost(5) == elementwise_cost(15)


def test_roofline():
    roof = Roofline(flops_per_second=100.0, bytes_per_second=10.0)
    assert roof.ridge == 10
    assert roof.attainable(2) == 20 and roof.attainable(50) == 100
    assert roof.seconds(Cost(100, 50, 50)) == 10
    assert roof.seconds(Cost(5000, 50, 50)) == 50


def test_measured_bounds_are_plausible():
    roof = measure_roofline(size=128, copied=2**20, rounds=2)
    assert 1e8 < roof.flops_per_second < 1e14
    assert 1e7 < roof.bytes_per_second < 1e13
    assert matmul_rate(64, torch.bfloat16, rounds=1) > 0
    with pytest.raises(ValueError, match="size=2"):
        copy_bandwidth(2)


def test_best_seconds_is_the_fastest_of_the_later_calls(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr("zoo_lessons.deploy.roofline.time.perf_counter", lambda: next(clock))
    calls = []
    assert best_seconds(lambda: calls.append(1), rounds=3) == 1.0
    assert len(calls) == 4


def test_rotate():
    seen = []
    turn = rotate([1, 2], seen.append)
    for _ in range(3):
        turn()
    assert seen == [1, 2, 1]


# --- traffic ------------------------------------------------------------------------------------

X = torch.randn(6, 10)


def kernels(function):
    return [
        (kernel.name, kernel.read, kernel.written) for kernel in count_traffic(function).kernels
    ]


def test_each_input_and_output_counts_once():
    n = X.nbytes
    assert kernels(lambda: X + 1) == [("add", n, n)]
    assert kernels(lambda: X * X) == [("mul", n, n)]
    assert kernels(lambda: torch.add(X, torch.ones(10))) == [("ones", 0, 40), ("add", n + 40, n)]
    traffic = count_traffic(lambda: (X + 1) * 2)
    assert (traffic.read, traffic.written, traffic.bytes) == (2 * n, 2 * n, 4 * n)


def test_views_and_allocation_move_nothing():
    assert kernels(lambda: torch.empty(3, 4).T[:2].unsqueeze(0).expand(5, -1, -1)) == []
    n = X.nbytes
    assert kernels(lambda: X.T.contiguous()) == [("clone", n, n)]
    assert kernels(lambda: X[:1].expand(6, 10) + 0) == [("add", 40, n)]


def test_writing_in_place():
    n, out = X.nbytes, torch.zeros(6, 10)
    assert kernels(lambda: torch.add(X, 1, out=out)) == [("add", n, n)]
    assert kernels(lambda: out.copy_(X)) == [("copy_", n, n)]
    assert kernels(lambda: out.add_(X)) == [("add_", 2 * n, n)]
    assert kernels(lambda: out.zero_()) == [("zero_", 0, n)]


def test_a_linear_layer_moves_what_its_product_costs():
    x, weight = torch.randn(2, 8), torch.randn(5, 8)
    assert count_traffic(lambda: F.linear(x, weight)).bytes == matmul_cost(2, 8, 5).bytes


def test_fused_attention_never_writes_the_scores():
    q, k, v = torch.randn(3, 1, 2, 64, 8)
    fused = count_traffic(lambda: F.scaled_dot_product_attention(q, k, v))
    assert fused.bytes < 5 * q.nbytes
    apart = count_traffic(lambda: (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v)
    scores = 2 * 64 * 64 * 4
    assert apart.bytes == 4 * q.nbytes + 4 * scores
