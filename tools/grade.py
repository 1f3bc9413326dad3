#!/usr/bin/env python3
"""Grade notebooks that learners hand in: what does `check` say to each exercise?

    python tools/grade.py handed_in/*/01_attention.ipynb > grades.csv

Each notebook runs from its first cell to its last in a fresh kernel, errors included. The lesson's
own checks take the place of the cells that check, whatever a learner made of those; where such a
cell is gone, its check runs at the end. One row for each exercise goes to standard output: file,
exercise, status, mistake.

This runs what people hand in, with your rights. Use an account of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
CELL_TIMEOUT_S = 600
COLUMNS = ("file", "exercise", "status", "mistake")
CHECK = re.compile(r"""check\(\s*["'](\d\d\.[a-z0-9_]+)["']\s*,\s*(\w+)\s*,?\s*\)""")
MARK = "GRADE "
# Asks the library, not a function `check` of the learner's.
CHECK_CODE = """
def _grade(exercise, name):
    import json
    from zoo_lessons.lab.exercises import check
    found = globals().get(name)
    result = None if found is None else check(exercise, found)
    row = [exercise, result.status, result.mistake] if result else [exercise, "missing", ""]
    print("{mark}" + json.dumps(row))

_grade({exercise!r}, {name!r})
"""


@dataclass(frozen=True)
class Check:
    """A cell of a lesson that checks: its id, the exercise, and the name of the answer."""

    cell_id: str
    exercise: str
    name: str

    def code(self) -> str:
        return CHECK_CODE.format(mark=MARK, exercise=self.exercise, name=self.name)


def lesson_checks(number: str) -> list[Check]:
    """The checks of a lesson, in its order.

    Raises:
        ValueError: there is no such lesson, or a cell tagged check has another form.
    """
    paths = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    if len(paths) != 1:
        raise ValueError(f"no lesson {number!r}: expected one notebook, found {len(paths)}")
    checks = []
    for cell in nbformat.read(paths[0], as_version=4).cells:
        if "check" in cell.metadata.get("tags", []):
            found = CHECK.search(cell.source)
            if not found:
                raise ValueError(f"lesson {number}: {cell.source!r} does not call check(id, name)")
            checks.append(Check(cell.id, found[1], found[2]))
    return checks


def grade(path: Path) -> list[tuple[str, str, str]]:
    """Exercise, status and mistake for all exercises of a notebook that was handed in.

    The lesson is told by the first two characters of the file's name. The status is that of
    `check`, or "missing" where the answer's name does not exist, or "not graded" where the kernel
    had ended before.

    Raises:
        ValueError: the name does not begin with a lesson's number.
    """
    checks = lesson_checks(path.name[:2])
    notebook = nbformat.read(path, as_version=4)
    places = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    asked = []
    for each in checks:
        cell = places.get(each.cell_id)
        if cell is None:
            cell = nbformat.v4.new_code_cell()
            notebook.cells.append(cell)
        cell.source, cell.outputs = each.code(), []  # what is stored there, anybody can write
        asked.append(cell)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )
    with suppress(DeadKernelError):
        client.execute()
    outputs = [out for cell in asked for out in cell.outputs]
    printed = "".join(out.get("text", "") for out in outputs if out.get("name") == "stdout")
    graded = [json.loads(row) for row in re.findall(rf"^{MARK}(.*)$", printed, re.MULTILINE)]
    found = {row[0]: tuple(row) for row in graded}
    return [found.get(each.exercise, (each.exercise, "not graded", "")) for each in checks]


def rows(paths: Sequence[Path]) -> Iterator[tuple[str, str, str, str]]:
    for path in paths:
        for exercise, status, mistake in grade(path):
            yield str(path), exercise, status, mistake


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="NN_topic.ipynb as handed in")
    table = csv.writer(sys.stdout)
    table.writerow(COLUMNS)
    for row in rows(parser.parse_args(arguments).notebooks):
        table.writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
