"""The open loop: what is sent, and how it is counted."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest

from tests.deploy.serving.coroutines import wait_for
from zoo_lessons.deploy.serving.load import (
    NO_ANSWER,
    LoadProcess,
    Plan,
    agrees,
    schedule,
    send,
    summarise,
    timeline,
)


def test_a_schedule_is_poisson_and_the_same_for_a_seed() -> None:
    plan = Plan(rate=200, seconds=20, seed=3)
    times = [when for when, _, _ in schedule(plan, 10)]
    gaps = np.diff(times)
    assert abs(len(times) - 4000) < 4 * 4000**0.5
    assert abs(gaps.std() / gaps.mean() - 1) < 0.1  # exponential gaps
    assert schedule(plan, 10) == schedule(plan, 10)
    assert schedule(plan, 10) != schedule(Plan(rate=200, seconds=20, seed=4), 10)


def test_zipf_draws_the_first_ranks_most() -> None:
    rows = [row for _, row, _ in schedule(Plan(rate=500, seconds=20, zipf=1.0), 100)]
    counts = np.bincount(rows, minlength=100)
    expected = 1 / np.arange(1, 101)
    expected *= len(rows) / expected.sum()
    assert abs(counts[0] / expected[0] - 1) < 0.15
    assert abs(counts[1:5].sum() / expected[1:5].sum() - 1) < 0.15
    even = np.bincount([row for _, row, _ in schedule(Plan(rate=500, seconds=20), 100)])
    assert even.max() < 2 * even.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0, "seconds": 1}, "rate=0"),
        ({"rate": 1, "seconds": 1, "zipf": -1}, "zipf=-1"),
        ({"rate": 1, "seconds": 1, "users": 0}, "users=0"),
    ],
)
def test_plans_that_make_no_sense(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**options)


def test_answers_agree_up_to_rounding() -> None:
    expected = {"digit": 3, "vector": [0.5, 0.25]}
    assert agrees({"digit": 3, "vector": [0.50001, 0.25], "more": 1}, expected)
    assert not agrees({"digit": 8, "vector": [0.5, 0.25]}, expected)
    assert not agrees({"digit": 3, "vector": [0.5, 0.3]}, expected)
    assert not agrees({"digit": 3, "vector": [0.5]}, expected)
    assert not agrees({"digit": 3}, expected)


async def stalling_server(stall: float):
    """Answers at once, but not during one stall that begins with the first request."""
    from aiohttp import web

    app, started = web.Application(), []

    async def predict(request):
        body = await request.json()
        loop = asyncio.get_running_loop()
        started.append(loop.time())
        await asyncio.sleep(max(0.0, started[0] + stall - loop.time()))
        answer = {"id": "a", "version": "v1", "cached": False, "output": {"digit": body["n"]}}
        return web.json_response(answer)

    app.router.add_post("/v1/predict", predict)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


def test_latency_counts_from_the_time_at_which_a_request_should_have_been_sent() -> None:
    pool = [{"body": {"n": 1}, "expect": {"digit": 1}}, {"body": {"n": 2}, "expect": {"digit": 5}}]

    async def run():
        runner, url = await stalling_server(0.6)
        rows = await send(url, pool, Plan(rate=100, seconds=1.0))
        await runner.cleanup()
        return rows

    rows = wait_for(run())
    summary = summarise(rows, 1.0)
    assert summary.errors == 0 and summary.requests == len(rows)
    early = [row for row in rows if row["time"] < 0.3]
    assert len(early) > 15  # they were sent during the stall, as strangers would
    assert all(row["latency"] > 0.25 for row in early)
    assert summary.wrong == sum(row["right"] is False for row in rows) > 0
    assert summary.p99 > 400


def test_nobody_there_counts_as_errors() -> None:
    rows = wait_for(
        send("http://127.0.0.1:9", [{"body": {}}], Plan(rate=50, seconds=0.2, timeout_s=1))
    )
    assert {row["status"] for row in rows} == {NO_ANSWER}
    assert summarise(rows, 0.2).errors == len(rows) > 0


def test_a_refusal_is_an_error_and_no_fast_answer() -> None:
    answer = {"status": 200, "right": True, "cached": False}
    rows = [{**answer, "latency": 0.1}] + 9 * [{**answer, "status": 503, "latency": 0.001}]
    summary = summarise(rows, 1.0)
    assert (summary.answered, summary.errors, summary.p50, summary.p99) == (1, 9, 100.0, 100.0)


def test_a_second_process_sends_and_returns_json() -> None:
    load = LoadProcess("http://127.0.0.1:9", [{"body": {}}], Plan(rate=20, seconds=0.3))
    begun = load.wait_for_start()
    assert abs(time.monotonic() - begun) < 2
    rows = load.rows()
    assert rows and json.dumps(rows)
    assert not load.running


def test_a_timeline_puts_each_answer_into_the_slice_in_which_it_came() -> None:
    def row(time, latency, status=200, cached=False):
        return {"time": time, "latency": latency, "status": status, "cached": cached}

    rows = [row(0.1, 0.1), row(0.2, 0.5, cached=True), row(0.3, 0.1, 503), row(1.6, 0.1)]
    slices = timeline(rows, 0.5)
    assert [one["time"] for one in slices] == [0.5, 1.0, 1.5, 2.0]
    assert [one["rate"] for one in slices] == [2, 2, 0, 2]
    assert [one["errors"] for one in slices] == [2, 0, 0, 0]
    assert [one["hits"] for one in slices] == [0, 100, None, 0]
    assert [one["under_way"] for one in slices] == [1, 0, 0, 0]
    assert slices[1]["p50"] == 500 and slices[2]["p50"] is None


def test_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="no rows"):
        summarise([], 1.0)
