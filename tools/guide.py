#!/usr/bin/env python3
"""Write the generated parts of the instructors' guide, or check that they are current.

    python tools/guide.py             write them
    python tools/guide.py --check     say what is out of step

Two kinds of files come from here:

- `docs/lessons/NN_slug.md`, the notes on one lesson. An author edits `NN_slug.toml` beside it:
  which misconceptions matter, what to discuss, where to pause. Aims and minutes come from the
  curriculum, sections and exercises from the lesson's source, and each misconception's output from
  the exercise itself, which is given that wrong answer.
- the tables in `docs/instructors.md`, between markers: lessons, routes, the run of each workshop
  day (`docs/schedules.toml`), and the recorded trial of the JupyterHub.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zoo_lessons.lab.curriculum import LESSONS, PARTS, ROUTES, Lesson, lesson
from zoo_lessons.lab.exercises import exercise
from zoo_lessons.lab.exercises.grading import CheckResult, Exercise, Mistake, grade

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "docs" / "lessons"
GUIDE = ROOT / "docs" / "instructors.md"
SCHEDULES = ROOT / "docs" / "schedules.toml"
TRIAL = ROOT / "data" / "records" / "course" / "hub_trial.json"
WRITTEN = "<!-- written by tools/guide.py from {source}: edit that file -->"
# What a line of code in the notes may use without importing it.
NAMES = """
import math
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from zoo_lessons.layers import *
"""


# --- what a lesson holds ------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """An exercise as its heading announces it; `further` if it or its section can wait."""

    number: int
    title: str
    stars: str
    minutes: int
    further: bool


@dataclass(frozen=True)
class Outline:
    """Numbered sections and exercises of a lesson, in its order; `further` sections can wait."""

    sections: dict[int, str]
    further: tuple[int, ...]
    tasks: tuple[Task, ...]

    def section(self, number: int) -> str:
        """ "3 · Why divide by √d_k?". ValueError lists the sections that exist."""
        if number not in self.sections:
            raise ValueError(f"no section {number}; there are {sorted(self.sections)}")
        return f"{number} · {self.sections[number]}"

    def task_minutes(self, *, further: bool) -> int:
        """Minutes of the exercises that can wait, or of those that cannot."""
        return sum(task.minutes for task in self.tasks if task.further == further)


SECTION = re.compile(r"^# ## (\d+) · (.+?)( \(further\))?$")
TASK = re.compile(r"^# #{2,4} Exercise (\d+) · (.+?) \((★[★☆]*), (\d+) min(, further)?\)$")


def outline(number: str) -> Outline:
    """The outline of a lesson's source.

    A section is *further* if its heading says so, or the notes do, for lessons that say it in a
    sentence of their introduction.

    Raises:
        FileNotFoundError: the lesson has no source.
    """
    sections: dict[int, str] = {}
    further = set(load_notes(number).get("further", ()))
    tasks, current = [], 0
    for line in source(number).read_text("utf8").splitlines():
        if found := SECTION.match(line):
            current = int(found[1])
            sections[current] = found[2].replace("*", "")
            further |= {current} if found[3] else set()
        elif found := TASK.match(line):
            waits = bool(found[5]) or current in further
            tasks.append(Task(int(found[1]), found[2], found[3], int(found[4]), waits))
    return Outline(sections, tuple(sorted(further)), tuple(tasks))


def source(number: str) -> Path:
    return ROOT / "notebooks" / "source" / f"{lesson(number).slug}.py"


def notes_path(number: str) -> Path:
    return NOTES / f"{lesson(number).slug}.toml"


def load_notes(number: str) -> dict[str, Any]:
    return tomllib.loads(notes_path(number).read_text("utf8"))


def annotated_lessons() -> list[Lesson]:
    """The lessons that are there and have notes for instructors."""
    return [
        entry
        for entry in LESSONS
        if notes_path(entry.number).exists() and source(entry.number).exists()
    ]


# --- misconceptions -----------------------------------------------------------------------------


def mistake_of(note: dict[str, str]) -> tuple[Exercise, Mistake]:
    """The exercise and the mistake that a note is about.

    Raises:
        ValueError: the exercise lists no such mistake.
    """
    found = exercise(note["exercise"])
    for mistake in found.mistakes:
        if mistake.name == note["name"]:
            return found, mistake
    names = [mistake.name for mistake in found.mistakes]
    raise ValueError(f"{found.id} lists no mistake {note['name']!r}; it lists {names}")


def provoke(note: dict[str, str]) -> CheckResult:
    """What `check` says to this mistake: to the note's own code, where it has some.

    Raises:
        ValueError: the check takes the answer for something else.
    """
    found, mistake = mistake_of(note)
    answer = run_code(note["code"]) if "code" in note else mistake.answer
    result = grade(found, answer)
    if result.mistake != mistake.name:
        raise ValueError(f"{found.id}: {mistake.name!r} was expected, but check says {result!r}")
    return result


def run_code(code: str) -> Any:
    """The value of an expression, or the function that the code defines last."""
    names: dict[str, Any] = {}
    exec(NAMES, names)
    known = set(names)
    try:
        compiled = compile(code, "<guide>", "eval")
    except SyntaxError:
        exec(code, names)
        defined = [name for name in names if name not in known and name != "__builtins__"]
        return names[defined[-1]]
    return eval(compiled, names)


def shown_code(note: dict[str, str]) -> str:
    """The wrong code to show; for a value exercise the wrong value; otherwise nothing."""
    if "code" in note:
        return note["code"].strip()
    found, mistake = mistake_of(note)
    return "" if found.asks_for_function or callable(mistake.answer) else repr(mistake.answer)


def mistake_block(note: dict[str, str]) -> list[str]:
    found, mistake = mistake_of(note)
    lines = [f"### {capitalised(mistake.name)}", "", f"*{found.title}*, `{found.id}`.", ""]
    if code := shown_code(note):
        lines += ["```python", code, "```", ""]
    lines += "\n>\n".join(f"> {line}" for line in repr(provoke(note)).splitlines()).splitlines()
    return [*lines, "", f"**Say:** {note['say'].strip()}", ""]


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- the notes on one lesson --------------------------------------------------------------------


def lesson_page(number: str) -> str:
    """The notes on one lesson, as Markdown.

    Raises:
        ValueError: the notes name a mistake, a section or a minute that the lesson does not have.
    """
    entry, notes, content = lesson(number), load_notes(number), outline(number)
    lines = [
        WRITTEN.format(source=f"{entry.slug}.toml"),
        "",
        f"# {entry.number} · {entry.title}: for instructors",
        "",
        f"*{entry.question}* Part {entry.part}, {PARTS[entry.part]}; {entry.minutes} minutes. "
        f"[The lesson](../../notebooks/{entry.slug}.ipynb), "
        f"[its solutions](../../notebooks/solutions/{entry.slug}.ipynb).",
        "",
        "**Aims.** After the lesson a learner can",
        "",
        *(f"- {goal}" for goal in entry.goals),
        "",
    ]
    if number == "00":  # it has no solutions notebook
        lines[4] = lines[4].split("), [its")[0] + ")."
    lines += [*task_table(content), "## Pace", "", *pace(entry, notes, content)]
    lines += ["## Misconceptions", "", "What `check` prints comes after the wrong answer.", ""]
    for note in notes["mistake"]:
        lines += mistake_block(note)
    lines += ["## Questions to discuss", ""]
    for index, question in enumerate(notes["question"], start=1):
        lines += [f"{index}. **{question['ask'].strip()}** {question['answer'].strip()}"]
    return "\n".join(lines) + "\n"


def task_table(content: Outline) -> list[str]:
    rows = ["| Exercise | | Difficulty | Minutes |", "|---|---|---|---|"]
    for task in content.tasks:
        title = f"{task.title} (further)" if task.further else task.title
        rows.append(f"| {task.number} | {title} | {task.stars} | {task.minutes} |")
    further = content.task_minutes(further=True)
    core = f"**{content.task_minutes(further=False)}**"
    return [*rows, f"| | **all** | | {core}{f' and {further} further' if further else ''} |", ""]


def pace(entry: Lesson, notes: dict[str, Any], content: Outline) -> list[str]:
    """Pause points in the order of the lesson, then what can be left out."""
    rows = ["| Minute | Pause after | Everyone has | Late? |", "|---|---|---|---|"]
    minute = 0
    for pause in notes["pause"]:
        if not minute < pause["minute"] <= entry.minutes:
            raise ValueError(
                f"lesson {entry.number}: pause at minute {pause['minute']}, expected more than "
                f"{minute} and at most {entry.minutes}"
            )
        minute = pause["minute"]
        section = content.section(pause["after"])
        later = [n for n in content.sections if n > pause["after"] and n not in content.further]
        late = f"Run All Above at section {later[0]}" if later else "Run All"
        rows.append(f"| {minute} | {section} | {pause['have'].strip()} | {late} |")
    lines = [*rows, "", notes["pace"].strip(), ""]
    if content.further:
        names = "; ".join(content.section(number) for number in content.further)
        lines += [f"**Leave out first** (marked *further*): {names}.", ""]
    return lines


# --- the tables of the guide --------------------------------------------------------------------


def lesson_table() -> str:
    rows = ["| | Lesson | Minutes | Exercises | Further ones |", "|---|---|---|---|---|"]
    for entry in annotated_lessons():
        content = outline(entry.number)
        core, more = (content.task_minutes(further=further) for further in (False, True))
        title = f"[{entry.title}](lessons/{entry.slug}.md)"
        rows.append(f"| {entry.number} | {title} | {entry.minutes} | {core} | {more or ''} |")
    return "\n".join(rows)


def route_table() -> str:
    rows = ["| Route | Lessons, with minutes | Minutes |", "|---|---|---|"]
    for route in ROUTES:
        stops = ", ".join(f"{stop.lesson} ({stop.minutes})" for stop in route.stops)
        rows.append(f"| **{route.name}**: {route.purpose} | {stops} | {route.minutes} |")
    return "\n".join(rows)


@cache
def schedules() -> dict[str, Any]:
    """The days and the semester, as `docs/schedules.toml` has them."""
    return tomllib.loads(SCHEDULES.read_text("utf8"))


def clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def minutes_of(time: str) -> int:
    hours, minutes = time.split(":")
    return 60 * int(hours) + int(minutes)


def day_table(day: dict[str, Any]) -> str:
    """The run of one workshop day, with clock times."""
    rows = ["| From | To | Minutes | |", "|---|---|---|---|"]
    now = minutes_of(day["start"])
    for item in day["items"]:
        what = item["what"]
        if "lesson" in item:
            entry = lesson(item["lesson"])
            what = f"**{entry.number} {entry.title}**: {what}"
        end = now + item["minutes"]
        rows.append(f"| {clock(now)} | {clock(end)} | {item['minutes']} | {what} |")
        now = end
    return "\n".join(rows)


def all_days() -> str:
    parts = []
    for event in schedules()["event"]:
        parts += [f"### {event['name']}", "", event["about"].strip(), ""]
        for day in event["day"]:
            if len(event["day"]) > 1:
                parts += [f"**{day['name']}**", ""]
            parts += [day_table(day), ""]
    return "\n".join(parts).rstrip()


def semester_table() -> str:
    rows = ["| Week | In class (90 minutes) | At home | Hand in |", "|---|---|---|---|"]
    for index, week in enumerate(schedules()["week"], start=1):
        numbers = ", ".join(f"{n} {lesson(n).title}" for n in week["lessons"])
        rows.append(
            f"| {index} | {numbers}: {week['in_class']} | {week['home']} | {week['hand_in']} |"
        )
    return "\n".join(rows)


def trial_table() -> str:
    """The recorded trial of the hub, or one sentence where there is none."""
    if not TRIAL.exists():
        return "*Not recorded on this copy of the course yet.*"
    record = json.loads(TRIAL.read_text("utf8"))
    figures, machine = record["figures"], record["machine"]
    parts = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    rows = [
        f"Recorded on {record['date']} by `{record['command']}`, on {machine['processor']} with "
        f"{machine['cores']} cores and {figures['memory_mb'] / 1000:.0f} GB of memory; {parts}.",
        "",
        "| Learner | Lessons | Log-in, s | Server, s | Copy, s | Run All of both, s | "
        "Peak memory, MB | Failures |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in figures["learners"]:
        numbers = ", ".join(each["lesson"] for each in run["lessons"]) or "-"
        longest = max((each["seconds"] for each in run["lessons"]), default=math.nan)
        failures = "; ".join(run["failures"]) or "none"
        rows.append(
            f"| {run['name']} | {numbers} | {run['login_s']:.0f} | {run['server_s']:.0f} | "
            f"{run['copy_s']:.0f} | {longest:.0f} | {run['peak_mb']:.0f} | {failures} |"
        )
    rows += [
        "",
        f"{capitalised(counted(figures['failures'], 'failure'))} in {figures['seconds'] / 60:.0f} "
        f"minutes. At the peak, all processes together held {figures['room_mb'] / 1000:.1f} GB, "
        f"of which the hub and its proxy {figures['hub_mb']:.0f} MB; half of the learners needed "
        f"more than {figures['median_peak_mb']:.0f} MB. The least memory that was free: "
        f"{figures['least_free_mb'] / 1000:.1f} GB. Memory is PSS: what processes share is counted "
        "once.",
    ]
    return "\n".join(rows)


def counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


TABLES = {
    "lessons": lesson_table,
    "routes": route_table,
    "days": all_days,
    "semester": semester_table,
    "trial": trial_table,
}


def guide_page() -> str:
    """`docs/instructors.md` with its tables brought up to date.

    Raises:
        ValueError: a table's markers are missing.
    """
    text = GUIDE.read_text("utf8")
    for name, make in TABLES.items():
        start = f"<!-- {name}: written by tools/guide.py -->"
        end = f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"{GUIDE.name} must hold {start!r} and {end!r} once each")
        before, rest = text.split(start)
        text = f"{before}{start}\n{make()}\n{end}{rest.split(end)[1]}"
    return text


# --- the command --------------------------------------------------------------------------------


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated file with its current content."""
    for entry in annotated_lessons():
        yield notes_path(entry.number).with_suffix(".md"), lesson_page(entry.number)
    yield GUIDE, guide_page()


def stale() -> list[str]:
    """The generated files that are not as they should be."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in pages()
        if not path.exists() or path.read_text("utf8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        problems = stale()
        for path in problems:
            print(f"{path}: out of step, run python tools/guide.py", file=sys.stderr)
        return 1 if problems else 0
    for path, text in pages():
        path.write_text(text, "utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
