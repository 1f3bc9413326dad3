"""Users: requests that come when they come, from a process of their own.

Two ways to load a service. In a *closed* loop, a number of users each wait for an answer before
they ask again. When the service stalls for a second, they all wait politely, and one slow request
per user is counted where many would have come. In an *open* loop, requests are sent at times drawn
beforehand, whatever the service does, as a crowd of strangers would. Latency is then counted from
the time at which a request *should* have been sent: what a sender that fell behind spent waiting is
part of what its user waits (Tene calls leaving it out "coordinated omission"; Schroeder et al.
2006, "Open Versus Closed: A Cautionary Tale").

This loop is open, with a bound on the requests that are under way, so that a broken test cannot
fill the machine. Those beyond the bound are counted as failed, not left out.

    python -m zoo_lessons.deploy.serving.load < plan.json > rows.json
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from zoo_lessons.paths import repository_root

MAX_UNDER_WAY = 400
START_DELAY_S = 0.5  # the clock starts when the sender is ready
NOT_SENT, NO_ANSWER = -1, 0  # instead of HTTP's status


@dataclass(frozen=True)
class Plan:
    """What is sent.

    Attributes:
        rate: requests per second on average; the gaps are exponential (a Poisson process).
        seconds: for how long.
        zipf: popularity: the request of rank r in the pool is drawn in proportion to 1 / r^zipf.
            0 draws all alike.
        users: number of users, who are drawn alike; a canary shows itself to some of them.
        feedback: tell the service the pool's label of what it answered.
        seed: of the times, the draws and the users.
        timeout_s: after which a user gives up.

    Raises:
        ValueError: a number out of range.
    """

    rate: float
    seconds: float
    zipf: float = 0.0
    users: int = 100
    feedback: bool = False
    seed: int = 0
    timeout_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("rate", "seconds", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")
        if self.zipf < 0 or self.users < 1:
            raise ValueError(
                f"zipf={self.zipf} must be at least 0 and users={self.users} at least 1"
            )


def schedule(plan: Plan, pool: int) -> list[tuple[float, int, str]]:
    """What will be sent: (second, row of the pool, user), in order of time.

    Raises:
        ValueError: an empty pool.
    """
    if pool < 1:
        raise ValueError("the pool is empty: there is nothing to send")
    draw = random.Random(plan.seed)
    cumulative = list(accumulate(1 / rank**plan.zipf for rank in range(1, pool + 1)))
    sent, now = [], draw.expovariate(plan.rate)
    while now < plan.seconds:
        row = draw.choices(range(pool), cum_weights=cumulative)[0]
        sent.append((now, row, f"user-{draw.randrange(plan.users)}"))
        now += draw.expovariate(plan.rate)
    return sent


def agrees(output: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether an answer is the expected one; numbers may differ by a thousandth, since sums in a
    batch are rounded in another order."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(b, list):
            return (
                isinstance(a, list)
                and len(a) == len(b)
                and all(same(*pair) for pair in zip(a, b, strict=True))
            )
        if isinstance(b, float):
            return isinstance(a, int | float) and abs(a - b) <= 1e-3
        return a == b

    return all(name in output and same(output[name], value) for name, value in expected.items())


async def send(
    url: str, pool: Sequence[Mapping[str, Any]], plan: Plan, *, begins: float | None = None
) -> list[dict[str, Any]]:
    """Send what the schedule says.

    Args:
        url: of the service.
        pool: {"body": a request, "expect": its right output or absent, "label": for feedback}.
        plan: how much, how often, how long.
        begins: moment of `time.monotonic()` from which the schedule counts; now by default.

    Returns:
        For each request {"time", "latency", "status", "cached", "version", "right"}: seconds from
        the start, seconds from the intended time to the answer, HTTP's status (NO_ANSWER and
        NOT_SENT for what never got one), and whether the answer was the expected one (None if it
        was no answer, or nothing was expected).
    """
    import aiohttp

    rows: list[dict[str, Any]] = []
    under_way = 0
    options = {"timeout": aiohttp.ClientTimeout(plan.timeout_s)}
    async with aiohttp.ClientSession(url, **options) as session:
        start = time.monotonic() if begins is None else begins

        async def one(when: float, index: int, user: str) -> None:
            nonlocal under_way
            entry = pool[index]
            row = {"time": when, "latency": None, "status": NOT_SENT, "cached": None}
            row |= {"version": None, "right": None}
            rows.append(row)
            if under_way >= MAX_UNDER_WAY:
                return
            under_way += 1
            try:
                body = {**entry["body"], "user": user}
                async with session.post("/v1/predict", json=body) as response:
                    row["status"] = response.status
                    answer = await response.json()
                row["latency"] = time.monotonic() - start - when
                if row["status"] == 200:
                    row["cached"], row["version"] = answer["cached"], answer["version"]
                    if entry.get("expect") is not None:
                        row["right"] = agrees(answer["output"], entry["expect"])
                    if plan.feedback:
                        told = {"id": answer["id"], "label": entry["label"]}
                        async with session.post("/v1/feedback", json=told) as response:
                            await response.read()
            except (aiohttp.ClientError, TimeoutError, ValueError):
                row["status"] = NO_ANSWER if row["latency"] is None else row["status"]
                row["latency"] = time.monotonic() - start - when
            finally:
                under_way -= 1

        async with asyncio.TaskGroup() as tasks:
            for when, index, user in schedule(plan, len(pool)):
                await asyncio.sleep(max(0.0, start + when - time.monotonic()))
                tasks.create_task(one(when, index, user))
    return rows


@dataclass(frozen=True)
class Summary:
    """What users saw: `rate` of good answers per second, latencies in milliseconds."""

    requests: int
    answered: int
    errors: int
    wrong: int
    cached: int
    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.errors} errors, {self.wrong} wrong answers; "
            f"{self.rate:.0f} answers/s, p50 {self.p50:.0f} ms, p99 {self.p99:.0f} ms"
        )


def summarise(rows: Sequence[Mapping[str, Any]], seconds: float) -> Summary:
    """Pool the latencies of all answers: percentiles of percentiles mean nothing.

    Errors are counted, and their waits left out: a refusal is quick, and would flatter p50.

    Args:
        rows: of `send`.
        seconds: for how long they were sent.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to summarise")
    good = [row for row in rows if row["status"] == 200]
    waits = [1e3 * row["latency"] for row in good] or [float("nan")]
    return Summary(
        requests=len(rows),
        answered=len(good),
        errors=len(rows) - len(good),
        wrong=sum(row["right"] is False for row in good),
        cached=sum(bool(row["cached"]) for row in good),
        rate=len(good) / seconds,
        p50=float(np.percentile(waits, 50)),
        p99=float(np.percentile(waits, 99)),
    )


def timeline(rows: Sequence[Mapping[str, Any]], width: float = 0.5) -> list[dict[str, Any]]:
    """What users saw, in slices of time; the fields are those of the lesson's dashboard.

    A request belongs to the slice in which its answer came.

    Args:
        rows: of `send`.
        width: of a slice, in seconds.
    """
    ends = [row["time"] + (row["latency"] or 0.0) for row in rows]
    found = []
    for i in range(int(max(ends, default=0.0) / width) + 1):
        now = [row for row, end in zip(rows, ends, strict=True) if int(end / width) == i]
        good = [row for row in now if row["status"] == 200]
        waits = [1e3 * row["latency"] for row in good]
        later = (i + 1) * width
        waiting = sum(row["time"] < later <= end for row, end in zip(rows, ends, strict=True))
        found.append(
            {
                "time": later,
                "rate": len(good) / width,
                "errors": (len(now) - len(good)) / width,
                "p50": float(np.percentile(waits, 50)) if waits else None,
                "p99": float(np.percentile(waits, 99)) if waits else None,
                "hits": 100 * sum(bool(row["cached"]) for row in good) / len(good)
                if good
                else None,
                "under_way": waiting,
            }
        )
    return found


class LoadProcess:
    """`send` in a second process, so that the senders do not take time from the reader's kernel.

    Args:
        url, pool, plan: of `send`.
    """

    def __init__(self, url: str, pool: Sequence[Mapping[str, Any]], plan: Plan):
        self.plan = plan
        self._input = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        json.dump({"url": url, "pool": list(pool), "plan": asdict(plan)}, self._input)
        self._input.seek(0)
        self._output = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zoo_lessons.deploy.serving.load"],
            stdin=self._input,
            stdout=self._output,
            cwd=repository_root(),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def wait_for_start(self) -> float:
        """Wait until the first second begins, and return that moment of `time.monotonic()`.

        Raises:
            RuntimeError: it ended before.
        """
        while self.running:
            # Not `seek`: the child writes at the file position that it shares with us.
            first, newline, _ = os.pread(self._output.fileno(), 200, 0).partition(b"\n")
            if newline:
                begun = json.loads(first)["begins"]
                time.sleep(max(0.0, begun - time.monotonic()))
                return begun
            time.sleep(0.05)
        raise RuntimeError(f"the load process ended with code {self._process.returncode}")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def rows(self) -> list[dict[str, Any]]:
        """Wait for the end, and return what `send` returned. Only once.

        Raises:
            RuntimeError: it failed.
        """
        limit = self.plan.seconds + self.plan.timeout_s + 60
        try:
            if self._process.wait(limit):
                raise RuntimeError(f"the load process ended with code {self._process.returncode}")
            self._output.seek(0)
            self._output.readline()  # when it began
            return json.loads(self._output.read())
        finally:
            self.stop()

    def stop(self) -> None:
        """End it, early if need be; what it found is gone."""
        if self.running:
            self._process.kill()
            self._process.wait()
        self._input.close()
        self._output.close()


def main() -> None:
    """Read {"url", "pool", "plan"} from standard input; write when it begins, then the rows."""
    given = json.load(sys.stdin)
    begins = time.monotonic() + START_DELAY_S  # the same clock in all processes of a machine
    print(json.dumps({"begins": begins}), flush=True)
    rows = asyncio.run(send(given["url"], given["pool"], Plan(**given["plan"]), begins=begins))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
