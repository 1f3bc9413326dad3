"""What a notebook may take (seconds, memory, bytes), and what it took when it was measured.

    python -m tools.budgets measure          every notebook, one by one, each in a fresh kernel
    python -m tools.budgets measure 01 24    only these lessons and their solutions
    python -m tools.budgets table            write docs/budgets.md from the record
    python -m tools.budgets check            what is over its limit, missing, or not current

`measure` needs a quiet machine. It changes no notebook, writes `data/records/course/budgets.json`
and then the table. Notebooks that it is not asked for keep their rows.

The limits stand in `tools/notebook_budgets.py`, which enforces them where notebooks run in the
tests, with a margin.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil

from tools.course_records import read_course_record, write_course_record
from tools.notebook_budgets import limit, tree_memory
from tools.notebooks import ROOT, Course, Pair, execute

NAME, COMMAND = "budgets", "make budgets"
TABLE = ROOT / "docs" / "budgets.md"
SAMPLE_SECONDS = 0.25
GROSS = 1.25
"""A recorded figure may exceed its limit by this factor before the tests fail."""
RESIZED = 1.5
"""A stored notebook that has changed its size by this factor wants to be measured again."""


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most that any child of this process takes with its descendants; read it at the end.

    Yields:
        A list of one number, in bytes, which grows.
    """
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            children = psutil.Process().children()
            peak[0] = max([peak[0], *(tree_memory(child.pid) for child in children)])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


# --- measuring -----------------------------------------------------------------------------------


def measure(course: Course, pair: Pair) -> dict[str, Any]:
    """Execute a notebook in a fresh kernel, as the builder does, and write nothing."""
    nb = course.read_source(pair)
    started = time.perf_counter()
    with peak_memory() as peak:
        kernel_kib = execute(nb, pair.notebook.parent)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "memory": max(peak[0], 1024 * kernel_kib),
        "size": pair.notebook.stat().st_size,
        "date": datetime.now(UTC).date().isoformat(),
    }


def key(course: Course, pair: Pair) -> str:
    """How the record names a notebook: its path."""
    return pair.notebook.relative_to(course.root).as_posix()


def record(course: Course, names: Sequence[str]) -> None:
    """Measure the named notebooks, or all, and write the record after each one."""
    rows = recorded()
    kept = {key(course, pair) for pair in course.pairs()}
    started = time.perf_counter()
    for pair in course.select(names):
        name = key(course, pair)
        rows[name] = row = measure(course, pair)
        print(f"{name:<52} {row['seconds']:6.1f} s {row['memory'] / 1e9:6.2f} GB", flush=True)
        rows = {name: rows[name] for name in sorted(rows) if name in kept}
        write_course_record(NAME, COMMAND, rows, time.perf_counter() - started)


def recorded() -> dict[str, dict[str, Any]]:
    """The rows of the record, by notebook; none before the first measurement."""
    try:
        return read_course_record(NAME)["figures"]
    except FileNotFoundError:
        return {}


# --- the table -----------------------------------------------------------------------------------


def table(course: Course, made: Mapping[str, Any]) -> str:
    """docs/budgets.md, from the record."""
    machine, rows = made["machine"], made["figures"]
    lines = [
        "# What the notebooks take",
        "",
        f"Written by `{COMMAND}` from `data/records/course/{NAME}.json`; do not edit. Each "
        f"notebook ran alone in a fresh kernel on {machine['device']}, {machine['cores']} cores, "
        f"{machine['threads']} threads, torch {machine['torch']}. Memory is that of the kernel and "
        "of all processes that it starts, at its highest. **Bold** is over the limit; the tests "
        f"fail when a figure is more than {GROSS - 1:.0%} over.",
        "",
        "| Notebook | Seconds (limit) | Memory, GB (limit) | File, MB (limit) | Measured |",
        "|---|---:|---:|---:|---|",
    ]
    for pair in course.pairs():
        row, most = rows.get(key(course, pair)), limit(pair.lesson.slug)
        name = f"{pair.lesson.slug}{', solutions' if pair.is_solution else ''}"
        if row is None:
            lines.append(f"| {name} | not measured | | | |")
            continue
        cells = [
            _cell(row["seconds"], most.seconds, ".0f"),
            _cell(row["memory"] / 1e9, most.memory / 1e9, ".2f"),
            _cell(row["size"] / 1e6, most.size / 1e6, ".2f"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['date']} |")
    lessons = [rows[k] for pair in course.pairs() if (k := key(course, pair)) in rows]
    if lessons:
        total = sum(row["seconds"] for row in lessons) / 60
        lines += ["", f"All of them, one after the other: {total:.0f} minutes."]
    return "\n".join(lines) + "\n"


def _cell(value: float, most: float, form: str) -> str:
    text = format(value, form)
    return f"{f'**{text}**' if value > most else text} ({most:g})"


def problems(
    course: Course, made: Mapping[str, Any] | None, written: str | None
) -> tuple[list[str], list[str]]:
    """What is wrong with stored notebooks, and what with the record and its table.

    Args:
        made: the record, or None where there is none.
        written: the table as it stands, or None.
    """
    stored, measured = [], []
    rows = made["figures"] if made else {}
    for pair in course.pairs():
        name, most = key(course, pair), limit(pair.lesson.slug)
        if not pair.notebook.exists():
            continue
        size = pair.notebook.stat().st_size
        if size > most.size:
            stored.append(f"{name} has {size / 1e6:.1f} MB, at most {most.size / 1e6:g}")
        row = rows.get(name)
        if row is None:
            measured.append(f"{name} was never measured")
            continue
        for what, unit, scale in (("seconds", "s", 1), ("memory", "GB", 1e9)):
            if row[what] > GROSS * getattr(most, what):
                measured.append(
                    f"{name} took {row[what] / scale:.3g} {unit}, at most "
                    f"{getattr(most, what) / scale:g}"
                )
        if not 1 / RESIZED < size / row["size"] < RESIZED:
            measured.append(f"{name} has another size than when it was measured")
    if made and written != table(course, made):
        measured.append(
            f"{TABLE.name} is not what the record says: run python -m tools.budgets table"
        )
    return stored, measured


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m tools.budgets`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="execute notebooks, record what they take")
    measuring.add_argument("names", nargs="*", help="numbers, names or paths; default: all")
    commands.add_parser("table", help="write docs/budgets.md from the record")
    commands.add_parser("check", help="fail when a limit is exceeded or the table is not current")
    options = parser.parse_args(arguments)
    course = Course()
    try:
        if options.command == "measure":
            record(course, options.names)
        if options.command in ("measure", "table"):
            TABLE.parent.mkdir(exist_ok=True)
            TABLE.write_text(table(course, read_course_record(NAME)), "utf8")
            return 0
        made = read_course_record(NAME) if recorded() else None
    except (ValueError, FileNotFoundError) as error:
        print(f"tools.budgets: {error}", file=sys.stderr)
        return 1
    found = problems(course, made, TABLE.read_text("utf8") if TABLE.exists() else None)
    print("\n".join(sum(found, [])) or "every notebook keeps its budget")
    return int(any(found))


if __name__ == "__main__":
    raise SystemExit(main())
