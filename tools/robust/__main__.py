"""Run the lessons again and with other seeds, and the unit tests on other Pythons.

    python -m tools.robust                        everything; hours
    python -m tools.robust --lessons 01 15        only these lessons
    python -m tools.robust --only pythons         only the unit tests on every Python
    python -m tools.robust --only table           only write the record and table from what is kept
    python -m tools.robust --list                 say what is done and what is missing

A run that was cut off goes on where it stopped: what is done lies in `build/robust/`. Lessons or
library that changed since are run again. The results go to `data/records/course/robust.json` and
`docs/robustness.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from tools.course_records import course_record_path, read_course_record, write_course_record
from tools.notebooks import ROOT, Course
from tools.robust import pythons
from tools.robust.runs import Job, Run, kept, make
from tools.robust.summary import summarise, table
from tools.run_tests import ENVIRONMENT
from zoo_lessons.lab.curriculum import LESSONS

NAME, COMMAND = "robust", "make robust"
PAGE = ROOT / "docs" / "robustness.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN", help="default: all")
    parser.add_argument("--seeds", type=int, default=5, help="other seeds per lesson; default 5")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="lessons at once")
    parser.add_argument("--only", choices=("lessons", "pythons", "table"))
    parser.add_argument(
        "--python", nargs="+", default=[], help="versions, as in 3.12, or paths; default: all here"
    )
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    try:
        names = lesson_names(options.lessons)
        chosen = pythons.find(options.python) if options.only in (None, "pythons") else {}
    except ValueError as error:
        parser.error(str(error))
    jobs = all_jobs(names, options.seeds)
    if options.list:
        list_jobs(jobs)
        return 0
    os.environ.update(ENVIRONMENT)  # kernels inherit it
    failed = False
    if options.only in (None, "lessons"):
        failed = not run_jobs([job for job in jobs if kept(job) is None], options.jobs)
    if options.only in (None, "pythons"):
        pythons.run(chosen, options.jobs)
    write(names, options.seeds)
    return int(failed)


def lesson_names(wanted: Sequence[str]) -> list[str]:
    """Names of the lessons' notebooks, in the course's order; of all that exist by default.

    Raises:
        ValueError: there is no such lesson.
    """
    pairs = Course().select(list(wanted))
    slugs = {pair.lesson.slug for pair in pairs if not pair.is_solution and pair.notebook.exists()}
    return [lesson.slug for lesson in LESSONS if lesson.slug in slugs]


def all_jobs(names: Sequence[str], seeds: int) -> list[Job]:
    """Every run of these lessons. Seed by seed, so that two runs at once are of two lessons."""
    kinds = [(0, 0), (0, 1), *((seed, 0) for seed in range(1, seeds + 1))]
    return [Job(seed, repeat, name) for seed, repeat in kinds for name in names]


def list_jobs(jobs: Sequence[Job]) -> None:
    done: dict[str, int] = dict.fromkeys((job.lesson for job in jobs), 0)
    for job in jobs:
        done[job.lesson] += kept(job) is not None
    runs = len(jobs) // len(done)
    for name, count in done.items():
        print(f"{name:28} {count} of {runs} runs done")


def run_jobs(jobs: Sequence[Job], at_once: int) -> bool:
    """Execute what is missing; say how it went, run by run. False when a run broke off."""
    whole = True
    # A process for each run: a kernel that dies takes nothing else along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        found = {pool.submit(make, job): job for job in jobs}
        for number, future in enumerate(as_completed(found), start=1):
            job = found[future]
            what = f"[{number}/{len(jobs)}] {job.lesson}, seed {job.seed}"
            if error := future.exception():
                whole = False
                print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{what}: {_in_short(future.result())}", flush=True)
    return whole


def _in_short(run: Run) -> str:
    failed = sum(check["failed"] > 0 for check in run.checks)
    errors = [cell.error for cell in run.cells if cell.error]
    return "; ".join(
        [
            f"{run.seconds:.0f} s",
            f"{failed} of {len(run.checks)} assertions failed" if failed else "assertions hold",
            *errors[:2],
        ]
    )


def write(names: Sequence[str], seeds: int) -> None:
    """Bring the record and the table up to date with the lessons whose runs are all done."""
    figures = read_figures()
    for name in names:
        runs = [kept(job) for job in all_jobs([name], seeds)]
        if None in runs:
            print(f"{name}: not all of its {len(runs)} runs are done", file=sys.stderr)
            continue
        figures["lessons"][name] = summarise(runs[0], runs[1], runs[2:])
    order = [lesson.slug for lesson in LESSONS]
    lessons = figures["lessons"]
    figures["lessons"] = {name: lessons[name] for name in order if name in lessons}
    if fresh := pythons.results():
        figures["pythons"] = fresh
    seconds = sum(part["seconds"] for part in figures["lessons"].values())
    seconds += sum(part["seconds"] for part in figures["pythons"])
    write_course_record(NAME, COMMAND, figures, seconds)
    write_page()


def read_figures() -> dict[str, Any]:
    if course_record_path(NAME).exists():
        return read_course_record(NAME)["figures"]
    return {"lessons": {}, "pythons": []}


def page() -> str:
    """docs/robustness.md as it follows from the record."""
    return table(read_course_record(NAME), {lesson.slug: lesson.title for lesson in LESSONS})


def write_page() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf8")


if __name__ == "__main__":
    started = time.perf_counter()
    status = main()
    print(f"total time: {(time.perf_counter() - started) / 60:.0f} min")
    raise SystemExit(status)
