"""What a student bundle must not hold: solutions, outputs, traces of the author's machine.

The library stays readable, so the bundle is no exam paper: `lab.check` compares with reference
answers in `zoo_lessons/lab/exercises/`, and the quizzes' files mark what is right. Nothing that
runs on a student's computer could hide them. The promise is that nobody meets an answer by opening
the course's files one by one, and `problems` tests it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.notebooks import SETUP_TAG, TITLE_TAG, machine_patterns

# Shorter lines, such as `return x`, tell nothing.
MIN_CHARACTERS = 20
ANSWERS_IN_THE_LIBRARY = Path("zoo_lessons", "lab", "exercises")
LIBRARY = "zoo_lessons"


def problems(bundle: Path, root: Path) -> list[str]:
    """Everything that the bundle gives away; nothing when the list is empty.

    Args:
        bundle: the unpacked student bundle.
        root: the repository that it was made from, with its solutions.
    """
    found = []
    telling = telling_lines(root)
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        name = path.relative_to(bundle).as_posix()
        lines = _lines(path)
        if lines is None:
            continue
        if path.suffix == ".ipynb":
            found += [f"{name}: {what}" for what in _notebook_problems(path, root / name)]
        if path.relative_to(bundle).parts[0] != LIBRARY:
            found += [
                f"{name}: holds a line of {telling[line]}: {line!r}"
                for line in sorted(set(lines) & telling.keys())
            ]
        for label, pattern in machine_patterns(root):
            if match := re.search(pattern, path.read_text("utf8")):
                found.append(f"{name}: holds {label}: {match[0]!r}")
    return found


def telling_lines(root: Path) -> dict[str, str]:
    """Lines, without their blanks, that stand only in a solution; with the name of its file."""
    common: set[str] = set()
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        common.update(_lines(path) or ())
    for folder in (LIBRARY, "experiments"):
        for path in sorted((root / folder).rglob("*.py")):
            if ANSWERS_IN_THE_LIBRARY not in path.relative_to(root).parents:
                common.update(_lines(path) or ())
    telling = {}
    for path in sorted((root / "notebooks" / "solutions").glob("*.ipynb")):
        for line in _lines(path, first_cell=2) or ():
            if len(line) >= MIN_CHARACTERS and line not in common:
                telling[line] = path.name
    return telling


def _lines(path: Path, first_cell: int = 0) -> list[str] | None:
    """A file's lines without blanks, a notebook's from its cells; None for a binary file."""
    try:
        text = path.read_text("utf8")
    except UnicodeDecodeError:
        return None
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells[first_cell:]
        text = "\n".join(cell.source for cell in cells)
    return ["".join(line.split()) for line in text.splitlines()]


def _notebook_problems(path: Path, original: Path) -> Iterator[str]:
    nb = nbformat.read(path, as_version=4)
    if set(nb.metadata) != {"kernelspec"}:
        yield f"has the metadata {sorted(nb.metadata)}, expected only kernelspec"
    if not original.is_file():
        yield "is no lesson of the course"
        return
    cells = nbformat.read(original, as_version=4).cells
    if len(cells) != len(nb.cells):
        yield f"has {len(nb.cells)} cells, the lesson has {len(cells)}"
    for index, (cell, wanted) in enumerate(zip(nb.cells, cells, strict=False)):
        yield from (f"cell {index}: {what}" for what in _cell_problems(cell, wanted))


def _cell_problems(cell: NotebookNode, wanted: NotebookNode) -> Iterator[str]:
    tags = cell.metadata.get("tags", [])
    if set(cell.metadata) - {"tags"}:
        yield f"has the metadata {sorted(cell.metadata)}, expected only tags"
    if cell.source != wanted.source and not {TITLE_TAG, SETUP_TAG} & set(tags):
        yield "is not the lesson's"
    if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
        yield "holds outputs or a count of executions"
    if TITLE_TAG in tags and "solutions/" in cell.source:
        yield "links to the solutions"
