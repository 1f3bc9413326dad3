"""The service as a child process, for notebooks and experiments.

The child gets its commands through its standard input, so that nobody but its parent can give any.
When the parent goes away, that input ends, and the child takes everything down by itself.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from zoo_lessons.deploy.serving.metrics import Reading
from zoo_lessons.deploy.serving.settings import require_extra
from zoo_lessons.paths import repository_root

START_S, COMMAND_S, STOP_S = 300.0, 120.0, 30.0


class ServiceFailed(RuntimeError):
    """The service did not start, or a command did not succeed; the message says why."""


@contextmanager
def watch(
    service: BackgroundService, show: Callable[[dict[str, Any]], None], *, every: float = 0.5
) -> Iterator[None]:
    """While the block runs, read `/metrics` again and again, and show what changed.

    Args:
        service: that is watched.
        show: called from another thread with the fields of the lesson's dashboard.
        every: seconds between readings.
    """
    over, start = threading.Event(), time.monotonic()

    def loop() -> None:
        with httpx.Client(base_url=service.url, timeout=10) as http:
            before, then = Reading.parse(http.get("/metrics").text), start
            while not over.wait(every):
                try:
                    reading = Reading.parse(http.get("/metrics").text)
                except httpx.HTTPError:
                    continue  # an overloaded service is late: the next reading covers the gap
                now = time.monotonic()
                show(dashboard_row(reading, reading.since(before), now - start, now - then))
                before, then = reading, now

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(15)


def dashboard_row(now: Reading, change: Reading, at: float, seconds: float) -> dict[str, Any]:
    """One reading, and what was added since the last one `seconds` ago, for the dashboard."""
    good = change.total("zoo_requests_total", status="200")
    asked = change.total("zoo_cache_total")
    waits = [change.quantile("zoo_latency_seconds", q) for q in (0.5, 0.99)]
    p50, p99 = (None if math.isnan(wait) else 1e3 * wait for wait in waits)
    return {
        "time": at,
        "rate": good / seconds,
        "errors": (change.total("zoo_requests_total") - good) / seconds,
        "p50": p50,
        "p99": p99,
        "hits": 100 * change.total("zoo_cache_total", result="hit") / asked if asked else None,
        "under_way": now.total("zoo_in_flight"),
    }


class BackgroundService:
    """`python -m zoo_lessons.deploy.serving`, started, commanded and stopped from here.

    Use it with `with`, or call `stop()`.

    Args:
        *arguments: as on the command line: "--window-ms", "10". The port is a free one.

    Raises:
        ServeExtraMissing: Ray or Redis is not installed.
        ServiceFailed: it did not start.
    """

    def __init__(self, *arguments: str):
        require_extra()
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        command = [sys.executable, "-m", "zoo_lessons.deploy.serving", "--control", "--port", "0"]
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=repository_root(),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupted cell must not interrupt the service
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self.stop)
        try:
            self.url: str = self._next(START_S)["url"]
        except BaseException:
            self.stop()
            raise
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> BackgroundService:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def command(self, do: str, **options: Any) -> Any:
        """Let the service do something; see `obey` in __main__.py.

        Raises:
            ServiceFailed: it could not, or gave no answer in time.
        """
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"do": do, "with": options}) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError) as error:
                raise ServiceFailed(f"the service does not run any more{self._why()}") from error
            answer = self._next(COMMAND_S)
        if "error" in answer:
            raise ServiceFailed(f"{do}: {answer['error']}")
        return answer["done"]

    def ask(self, type: str, **fields: Any) -> httpx.Response:
        """Send one request of `schemas.py`."""
        return self.http.post("/v1/predict", json={"type": type, **fields})

    def reading(self) -> Reading:
        """What `/metrics` says now."""
        return Reading.parse(self.http.get("/metrics").text)

    def usage(self) -> dict[str, float]:
        """What all processes of the service have used: {"cpu_seconds", "megabytes"}."""
        used = self.processes()
        return {
            "cpu_seconds": sum(one["cpu_seconds"] for one in used),
            "megabytes": sum(one["megabytes"] for one in used),
        }

    def processes(self) -> list[dict[str, Any]]:
        """What each process of the service has used: {"name", "cpu_seconds", "megabytes"}.

        Memory that processes share is divided among them (PSS), where the system says so.
        """
        import psutil

        parent, found = psutil.Process(self._process.pid), []
        for process in [parent, *parent.children(recursive=True)]:
            try:
                times, full = process.cpu_times(), process.memory_full_info()
                name = "service" if process == parent else _short_name(process.cmdline())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended meanwhile
            megabytes = getattr(full, "pss", full.uss) / 1e6
            cpu_seconds = times.user + times.system
            found.append({"name": name, "cpu_seconds": cpu_seconds, "megabytes": megabytes})
        return found

    def stop(self) -> None:
        """Take everything down. A second call does nothing."""
        atexit.unregister(self.stop)
        if hasattr(self, "http"):
            self.http.close()
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                if line.startswith("{"):  # libraries may print, too
                    self._lines.put(line)
        self._lines.put(None)

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise ServiceFailed(f"no answer within {seconds:.0f} s{self._why()}") from None
        if line is None:
            raise ServiceFailed(f"the service stopped{self._why()}")
        return json.loads(line)

    def _why(self) -> str:
        """The end of what it wrote to standard error."""
        if self._log.closed:
            return ""
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-3:]
        return ": " + " / ".join(last) if last else ""


def _short_name(command: list[str]) -> str:
    """ "ray::ServeReplica:digit-v1:Replica.predict" -> "ServeReplica:digit-v1"; a path's last part
    for a program that does not rename itself."""
    title = command[0] if command else "ended"
    if title.startswith("ray::"):
        return ":".join(title.removeprefix("ray::").split(".")[0].split(":")[:2])
    return Path(title.split(" ")[0]).name
