"""Schedules: published formulas, end points, errors, and use with torch."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo_lessons.training.schedules import (
    SCHEDULES,
    constant,
    schedule_by_name,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)


@given(
    d_model=st.integers(1, 2048),
    warmup_steps=st.integers(1, 8000),
    step=st.integers(0, 50_000),
)
def test_inverse_sqrt_is_the_papers_formula_over_its_peak(d_model, warmup_steps, step):
    s = step + 1
    rate = d_model**-0.5 * min(s**-0.5, s * warmup_steps**-1.5)
    peak = (d_model * warmup_steps) ** -0.5
    assert warmup_inverse_sqrt(step, warmup_steps=warmup_steps) == pytest.approx(rate / peak)


def test_cosine_reaches_peak_half_and_end():
    schedule = partial(warmup_cosine, warmup_steps=10, total_steps=110, final_fraction=0.1)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(9) == schedule(10) == 1.0
    assert schedule(60) == pytest.approx(0.1 + 0.9 / 2)
    assert schedule(35) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule(110) == schedule(500) == pytest.approx(0.1)


def test_cosine_matches_torch_without_warmup():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    for step in range(40):
        ours = warmup_cosine(step, warmup_steps=0, total_steps=40)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_linear_falls_in_a_straight_line():
    schedule = partial(warmup_linear, warmup_steps=4, total_steps=14)
    rates = [schedule(step) for step in range(16)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[5:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0])


def test_constant_warms_up_and_stays():
    assert [constant(s, warmup_steps=2) for s in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert constant(0) == 1.0


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total_steps=st.integers(1, 400),
    step=st.integers(0, 500),
)
def test_every_named_schedule_stays_in_the_unit_interval(name, total_steps, step):
    assert 0.0 <= schedule_by_name(name, total_steps)(step) <= 1.0


def test_schedules_work_with_lambda_lr():
    schedule = partial(warmup_cosine, warmup_steps=3, total_steps=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    for step in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * schedule(step))
        optimizer.step()
        scheduler.step()


def test_names_and_defaults():
    assert schedule_by_name("warmup_cosine", 100)(9) == 1.0
    assert schedule_by_name("warmup_cosine", 100)(4) == 0.5
    assert schedule_by_name("warmup_linear", 100, warmup_steps=50)(24) == 0.5
    assert schedule_by_name("constant", 100)(0) == 1.0
    with pytest.raises(ValueError, match="unknown schedule 'cosine'.*warmup_cosine"):
        schedule_by_name("cosine", 100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(constant, -1), "step=-1"),
        (partial(constant, 0, warmup_steps=-2), "warmup_steps=-2"),
        (partial(warmup_inverse_sqrt, 0, warmup_steps=0), "warmup_steps >= 1, got 0"),
        (partial(warmup_cosine, 0, warmup_steps=5, total_steps=5), "total_steps=5 must be larger"),
        (
            partial(warmup_linear, 0, warmup_steps=1, total_steps=5, final_fraction=1.5),
            "final_fraction=1.5",
        ),
    ],
)
def test_errors_say_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()
