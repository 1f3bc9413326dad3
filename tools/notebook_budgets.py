"""What a notebook may take, and a pytest plugin that fails one which takes far more.

The plugin watches nbval's cells. Tests share the cores with each other, so the time may be `SLOW`
times the limit; memory does not depend on who else runs, and gets a small margin only. The last
cell of the notebook carries the failure. (`tools/budgets.py` measures and records on a quiet
machine.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from nbval.plugin import IPyNbCell

SLOW, LARGE = 3.0, 1.15
_SPENT = pytest.StashKey["Spent"]()


@dataclass(frozen=True)
class Limit:
    """What a notebook may take: seconds on two quiet cores, bytes of memory, bytes of the file."""

    seconds: float = 60
    memory: float = 1.5e9
    size: int = 1_500_000


LIMITS = {"21_serving": Limit(seconds=120, memory=2e9)}
"""Of the notebooks that need more than others: a service of several processes takes its time."""


def limit(slug: str) -> Limit:
    """The limit of a lesson and of its solutions, by the notebook's name without its ending."""
    return LIMITS.get(slug, Limit())


def tree_memory(pid: int) -> int:
    """Bytes of a process with its descendants now, or of the process alone at its peak so far.

    The larger of the two counts. Together they count by their proportional shares (PSS), so that
    memory which they have in common counts once. Where the system does not tell peak or share, what
    is resident now stands in.
    """
    try:
        process = psutil.Process(pid)
        together = sum(map(_share, [process, *process.children(recursive=True)]))
        return max(together, _peak_resident(process))
    except psutil.NoSuchProcess:
        return 0


def _peak_resident(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text("ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return process.memory_info().rss


def _share(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.Error:  # it has just ended, or belongs to somebody else
        return 0
    return getattr(memory, "pss", 0) or memory.rss


# --- the plugin ----------------------------------------------------------------------------------


@dataclass
class Spent:
    """What a notebook has taken so far: seconds, and bytes at the highest."""

    seconds: float = 0.0
    memory: int = 0

    def problems(self, slug: str) -> list[str]:
        """Where it is far over the limit of the notebook with this name."""
        most, found = limit(slug), []
        if self.seconds > SLOW * most.seconds:
            found.append(
                f"took {self.seconds:.0f} s: its limit is {most.seconds:g} s on quiet cores, and "
                f"{SLOW:g} times that beside other tests"
            )
        if self.memory > LARGE * most.memory:
            found.append(
                f"took {self.memory / 1e9:.2f} GB with its processes, at most {most.memory / 1e9:g}"
            )
        return [f"{slug} {problem}" for problem in found]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> pytest.TestReport:
    """Add up what the cells take; judge at the last one."""
    report = yield
    if not isinstance(item, IPyNbCell) or call.when == "teardown":
        return report
    notebook = item.parent
    spent = notebook.stash.setdefault(_SPENT, Spent())
    spent.seconds += call.duration
    spent.memory = max(spent.memory, tree_memory(notebook.kernel.km.provisioner.pid or 0))
    if call.when == "call" and report.passed and item is _last_cell(item):
        found = spent.problems(Path(notebook.path).stem)
        if found:
            report.outcome, report.longrepr = "failed", "\n".join(found)
    return report


def _last_cell(item: pytest.Item) -> pytest.Item:
    return [other for other in item.session.items if other.parent is item.parent][-1]
