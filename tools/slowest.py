"""A pytest plugin: after a long run, say which files and which kinds of tests took longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

LONG_RUN_SECONDS = 120
FILES = 12
_SECONDS = pytest.StashKey[Counter]()


def kind(path: str) -> str:
    """The group that a test file belongs to: its folder below tests/, or the notebooks."""
    folder, _, rest = path.partition("/")
    return f"tests/{rest.split('/')[0]}" if folder == "tests" and "/" in rest else folder


def lines(seconds: Mapping[str, float]) -> list[str]:
    """The summary of a run.

    Args:
        seconds: path of a file -> seconds of all its tests, set-up included.
    """
    total, kinds = sum(seconds.values()), Counter()
    for path, took in seconds.items():
        kinds[kind(path)] += took
    shares = ", ".join(f"{name} {took / total:.0%}" for name, took in kinds.most_common(6))
    longest = sorted(seconds.items(), key=lambda item: -item[1])[:FILES]
    return [
        f"{total / 60:.1f} minutes of tests on all workers together: {shares}",
        *(f"{took:7.1f} s  {path}" for path, took in longest),
    ]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to its controller
        config.stash[_SECONDS] = Counter()
        config.pluginmanager.register(_Adder(config.stash[_SECONDS]), "slowest")


class _Adder:
    def __init__(self, seconds: Counter) -> None:
        self.seconds = seconds

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if sum(self.seconds.values()) >= LONG_RUN_SECONDS:
            terminalreporter.section("what took longest")
            for line in lines(self.seconds):
                terminalreporter.line(line)
