#!/usr/bin/env python3
"""Grade notebooks that learners hand in: what does `check` say to each exercise?

    python tools/grade.py handed_in/*/01_attention.ipynb > grades.csv

Each notebook runs from its first cell to its last in a fresh kernel, errors included. Whatever a
learner did to the cells that check, the lesson's own checks run in their place, after all other
cells. One row for each exercise goes to standard output: file, exercise, status, mistake.

This runs what people hand in, with your rights. Use an account of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
CELL_TIMEOUT_S = 600
COLUMNS = ("file", "exercise", "status", "mistake")
CHECK = re.compile(r"""check\(\s*["'](\d\d\.[a-z0-9_]+)["']\s*,\s*(\w+)\s*,?\s*\)""")
# One cell for all: it goes through the checks itself, so that a learner's own `check` is not asked.
CHECKS = """
def _grades(wanted):
    import json
    from zoo_lessons.lab.exercises import check
    rows = []
    for exercise, name in wanted:
        found = globals().get(name)
        if found is None:
            rows.append([exercise, "missing", ""])
        else:
            result = check(exercise, found)
            rows.append([exercise, result.status, result.mistake])
    print("GRADES" + json.dumps(rows))

_grades({wanted!r})
"""


def lesson_checks(number: str) -> list[tuple[str, str]]:
    """Exercise ids of a lesson, and the names under which it asks for the answers.

    Raises:
        ValueError: there is no such lesson, or it has no checks.
    """
    paths = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    if len(paths) != 1:
        raise ValueError(f"no lesson {number!r}: expected one notebook, found {len(paths)}")
    cells = nbformat.read(paths[0], as_version=4).cells
    tagged = [cell.source for cell in cells if "check" in cell.metadata.get("tags", [])]
    found = [CHECK.search(source) for source in tagged]
    if not tagged or None in found:
        raise ValueError(f"lesson {number}: a cell tagged check does not call check(id, name)")
    return [(match[1], match[2]) for match in found]


def grade(path: Path) -> list[tuple[str, str, str]]:
    """Exercise, status and mistake for all exercises of a notebook that was handed in.

    The lesson is told by the first two characters of the file's name. "missing" is the status of an
    exercise whose function or value does not exist after all cells have run.

    Raises:
        ValueError: the name does not begin with a lesson's number.
    """
    wanted = lesson_checks(path.name[:2])
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS.replace("{wanted!r}", repr(wanted))))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )
    client.execute()
    printed = "".join(out.get("text", "") for out in notebook.cells[-1].outputs)
    if "GRADES" not in printed:  # the learner's cells broke what the checks need
        return [(exercise, "not graded", "") for exercise, _ in wanted]
    return [tuple(row) for row in json.loads(printed.split("GRADES")[1])]


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
