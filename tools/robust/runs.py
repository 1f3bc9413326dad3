"""One execution of one lesson in a fresh kernel, and the file that keeps what came out.

The files lie in `build/robust/runs/`. A run that was cut off goes on with those that are missing;
a file counts only as long as the lesson's cells and the library's code behind it are the same.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from tools.notebooks import CELL_TIMEOUT_S, KERNELSPEC, ROOT, WIDGET_VIEW
from tools.robust.kernel import STRIDE
from zoo_lessons.records import code_hash

RUNS = ROOT / "build" / "robust" / "runs"
SANITIZE = ROOT / "tests" / "notebooks" / "nbval_sanitize.cfg"
IGNORED, SKIPPED, RAISES = "nbval-ignore-output", "nbval-skip", "raises-exception"


@dataclass(frozen=True, order=True)
class Job:
    """A run to make.

    Attributes:
        seed: 0 for the lesson's own seeds; seed k adds k million to each.
        repeat: 0, and 1 for the second run with the same seeds.
        lesson: the notebook's name without its ending.
    """

    seed: int
    repeat: int
    lesson: str

    @property
    def notebook(self) -> Path:
        return ROOT / "notebooks" / f"{self.lesson}.ipynb"

    @property
    def path(self) -> Path:
        return RUNS / f"{self.lesson}-seed{self.seed}-{self.repeat}.json"


@dataclass
class Cell:
    """A code cell after its run.

    Attributes:
        heading: the last heading above it.
        compared: whether `make test` compares its outputs.
        error: what it raised, unless it is meant to raise.
        lines: what it printed.
        digest: sha256 of all that it showed, images included, without addresses and timings.
    """

    heading: str
    compared: bool
    error: str
    lines: list[str]
    digest: str


@dataclass
class Run:
    """What one execution showed.

    Attributes:
        source: sha256 of the lesson's code cells.
        modules: modules of the library that it used; with other seeds, without those of `lab`.
        code: `records.code_hash` of these.
        shifted: how many seeds in its cells were moved.
        cells: its code cells.
        checks: its assertions: `cell` (index into `cells`), `test`, `held`, `failed`; the last two
            count evaluations.
    """

    lesson: str
    seed: int
    repeat: int
    source: str
    modules: list[str]
    code: str
    seconds: float
    shifted: int
    cells: list[Cell] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)


def execute(job: Job) -> Run:
    """Run a lesson with moved seeds, to its end even where a cell fails.

    Raises:
        DeadKernelError: the kernel died.
    """
    nb = nbformat.read(job.notebook, as_version=4)
    source = source_hash(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if SKIPPED in _tags(cell):
                cell.source = ""
    nb.cells.insert(0, nbformat.v4.new_code_cell(_first_cell(job.seed * STRIDE)))
    nb.cells.append(nbformat.v4.new_code_cell("print(__zoo_report__())"))
    started = time.perf_counter()
    NotebookClient(
        nb,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNELSPEC["name"],
        allow_errors=True,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(job.notebook.parent)}},
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    ).execute()
    seconds = time.perf_counter() - started
    report = json.loads(nb.cells.pop().outputs[0].text)
    nb.cells.pop(0)
    modules = report["modules"]
    if job.seed:  # what `lab` shows may change; both runs that are compared must show the same
        modules = [name for name in modules if not name.startswith("zoo_lessons.lab")]
    code = code_hash(modules)
    seen = Run(job.lesson, job.seed, job.repeat, source, modules, code, seconds, report["shifted"])
    ran = []  # as the kernel numbers them: a cell without code does not run
    for place, (cell, heading) in enumerate(_code_cells(nb)):
        seen.cells.append(_seen_cell(cell, heading))
        if cell.execution_count is not None:
            ran.append(place)
    seen.checks = [{**check, "cell": ran[check["cell"]]} for check in report["checks"]]
    return seen


def _first_cell(shift: int) -> str:
    """Code that makes the kernel watch; it leaves one name behind, which no lesson uses."""
    return "\n".join(
        [
            "import sys as _sys",
            f"_sys.path.insert(0, {str(ROOT)!r})",
            "from tools.robust import kernel as _kernel",
            f"__zoo_report__ = (lambda k, w: lambda: k.report(w))(_kernel, _kernel.watch({shift}))",
            "_sys.path.pop(0)",
            "del _sys, _kernel",
        ]
    )


def _code_cells(nb: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Each code cell with the last heading above it."""
    heading = ""
    for cell in nb.cells:
        if cell.cell_type == "code":
            yield cell, heading
        else:
            heading = ([heading] + re.findall(r"^#+ (.+?)\s*$", cell.source, re.M))[-1]


def _seen_cell(cell: NotebookNode, heading: str) -> Cell:
    errors = [] if RAISES in _tags(cell) else [o for o in cell.outputs if o.output_type == "error"]
    lines = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            lines += sanitized(output.text).splitlines()
        elif output.output_type == "execute_result":
            lines += sanitized(output.data.get("text/plain", "")).splitlines()
    return Cell(
        heading=heading,
        compared=IGNORED not in _tags(cell),
        error=f"{errors[0].ename}: {errors[0].evalue}"[:200] if errors else "",
        lines=lines,
        digest=hashlib.sha256("\n".join(_shown(cell)).encode()).hexdigest(),
    )


def _shown(cell: NotebookNode) -> Iterator[str]:
    """All that a cell shows, as text: `make test` does not compare images, this does."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield sanitized(f"{output.name}: {output.text}")
        elif output.output_type == "error":
            yield sanitized(f"{output.ename}: {output.evalue}")
        else:
            for kind, content in sorted(output.data.items()):
                if kind != WIDGET_VIEW:
                    text = content if isinstance(content, str) else json.dumps(content)
                    yield f"{kind}: {text if kind.startswith('image/') else sanitized(text)}"


def _sanitizers() -> list[tuple[re.Pattern[str], str]]:
    """What `make test` removes before it compares: addresses, timings, ids of widgets."""
    rules = configparser.ConfigParser(interpolation=None)
    rules.read(SANITIZE, "utf8")
    return [(re.compile(part["regex"]), part["replace"]) for _, part in rules.items() if part]


_SANITIZERS = _sanitizers()


def sanitized(text: str) -> str:
    """Text as `make test` compares it."""
    for pattern, replacement in _SANITIZERS:
        text = pattern.sub(replacement, text)
    return text


def source_hash(nb: NotebookNode) -> str:
    """sha256 of a notebook's code cells."""
    code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n# %%\n".join(code).encode()).hexdigest()


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


# --- the files ----------------------------------------------------------------------------------


def make(job: Job) -> Run:
    """Execute a job and keep what it showed."""
    run = execute(job)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = job.path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(run), indent=1), "utf8")
    os.replace(unfinished, job.path)  # whole or not at all
    return run


def kept(job: Job) -> Run | None:
    """What an earlier run showed, if the lesson and the code behind it are still the same."""
    if not job.path.exists():
        return None
    values = json.loads(job.path.read_text("utf8"))
    cells = [Cell(**cell) for cell in values.pop("cells")]
    run = Run(**values, cells=cells)
    if run.source != source_hash(nbformat.read(job.notebook, as_version=4)):
        return None
    try:
        return run if run.code == code_hash(run.modules) else None
    except ModuleNotFoundError:  # the library has lost a module that this run used
        return None
