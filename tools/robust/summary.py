"""What the executions of a lesson say together, and the table that an author reads."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from tools.robust.runs import Run

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
# "exact match >= 99 %: True", "[True, True]", or the value alone
VERDICT = re.compile(r"(?:^|[:\[,;·] *)(True|False)\b(?= *(?:$|[\],;·]))")
# Words beside a figure that was learned. Percentages count without a word.
LEARNED = re.compile(
    r"%|accura|loss|recall|precision|F1|match|perplexity|nats|bits per|correct|right|error", re.I
)


def summarise(own: Run, again: Run, others: Sequence[Run]) -> dict[str, Any]:
    """JSON-able results of one lesson.

    Args:
        own: with the lesson's own seeds.
        again: the same once more, in another kernel.
        others: with other seeds.

    Returns:
        - "source", "code", "seconds" (of all runs), "seeds" (those of `others`), "shifted";
        - "compared": number of cells whose outputs are compared; "differ": headings of those that
          showed something else in the second run;
        - "results": how many results were looked at; "lost": those that a seed did not give, each
          with "heading", "what", "held" (by how many seeds), "missing" (the other seeds);
        - "spread": lines with learned figures that depend on the seed: "heading", "line" (with the
          lesson's own seeds), "range" (lowest to highest, own seeds included).
    """
    runs = [own, again, *others]
    compared = [i for i, cell in enumerate(own.cells) if cell.compared]
    differ = [i for i in compared if own.cells[i].digest != again.cells[i].digest]
    results = list(_results(own, again, others))
    return {
        "source": own.source,
        "code": own.code,
        "seconds": round(sum(run.seconds for run in runs), 1),
        "seeds": [run.seed for run in others],
        "shifted": own.shifted,
        "compared": len(compared),
        "differ": [own.cells[i].heading for i in differ],
        "results": len(results),
        "lost": [
            {
                "heading": heading,
                "what": what,
                "held": sum(held),
                "missing": [run.seed for run, ok in zip(others, held, strict=True) if not ok],
            }
            for heading, what, held in results
            if not all(held)
        ],
        "spread": list(_spread(own, again, others)),
    }


def _results(own: Run, again: Run, others: Sequence[Run]) -> Iterator[tuple[str, str, list[bool]]]:
    """(heading, what it says, whether it came out under each seed) of every result of a lesson."""
    for number, cell in enumerate(own.cells):
        errors = [run.cells[number].error for run in others]
        first = next((error for error in errors if error), "")
        what = f"the cell runs ({first})" if first else "the cell runs"
        yield cell.heading, what, [not error for error in errors]
        for check in (check for check in own.checks if check["cell"] == number):
            held = [_holds(run, number, check["test"]) for run in others]
            yield cell.heading, f"assert {check['test']}", held
        for place, line, _ in _stable_lines(own, again, number):
            verdicts = VERDICT.findall(line)
            if verdicts:
                found = [_verdicts(run.cells[number].lines, place, line) for run in others]
                yield cell.heading, line.strip(), [verdicts == each for each in found]


def _holds(run: Run, cell: int, test: str) -> bool:
    """Whether an assertion was evaluated, and never false."""
    same = [c for c in run.checks if c["cell"] == cell and c["test"] == test]
    return any(c["held"] for c in same) and not any(c["failed"] for c in same)


def _verdicts(lines: Sequence[str], place: int, wanted: str) -> list[str]:
    """What another run printed in this place, or else on the line that says the same."""
    if place < len(lines) and len(VERDICT.findall(lines[place])) == len(VERDICT.findall(wanted)):
        return VERDICT.findall(lines[place])
    same = [line for line in lines if _words(line) == _words(wanted)]
    return VERDICT.findall(same[0]) if same else []


def _words(line: str) -> str:
    """A line without its figures, verdicts and padding."""
    return re.sub(r"\s+", " ", VERDICT.sub("", NUMBER.sub("#", line))).strip()


def _stable_lines(own: Run, again: Run, number: int) -> Iterator[tuple[int, str, str]]:
    """Printed lines of a cell that are the same in both runs with the lesson's own seeds.

    The others hold times or other things that change from run to run.
    """
    pairs = zip_longest(own.cells[number].lines, again.cells[number].lines)
    for place, (line, repeated) in enumerate(pairs):
        if line is not None and line == repeated:
            yield place, line, _words(line)


def _spread(own: Run, again: Run, others: Sequence[Run]) -> Iterator[dict[str, str]]:
    """Lines with learned figures that depend on the seed."""
    for number, cell in enumerate(own.cells):
        for place, line, words in _stable_lines(own, again, number):
            if not LEARNED.search(line) or not NUMBER.search(line):
                continue
            found = [run.cells[number].lines for run in others]
            rows = [line, *(lines[place] for lines in found if place < len(lines))]
            if len(rows) <= len(others) or any(_words(row) != words for row in rows):
                continue  # another sentence: what it samples or chooses, not how well it learned
            if len({tuple(NUMBER.findall(row)) for row in rows}) > 1:
                yield {"heading": cell.heading, "line": line.strip(), "range": _ranged(rows)}


def _ranged(rows: Sequence[str]) -> str:
    """The first row, each number that differs replaced by "lowest to highest"."""
    columns = list(zip(*(NUMBER.findall(row) for row in rows), strict=True))
    numbers = iter(columns)

    def text(match: re.Match[str]) -> str:
        column = sorted(next(numbers), key=lambda number: float(number.replace(",", "")))
        return column[0] if column[0] == column[-1] else f"{column[0]} to {column[-1]}"

    return NUMBER.sub(text, rows[0]).strip()


# --- the table ----------------------------------------------------------------------------------

INTRODUCTION = """\
# Do the results hold again?

Written by `make robust`, which is too long for every change: it runs each lesson {runs} times, and
the unit tests on every Python that it finds. Recorded on {date}, {device}, one thread for each
lesson.

- **Same again:** two runs in fresh kernels with the lesson's own seeds. Every cell that `make test`
  compares must show the same, images to the last byte.
- **Other seeds:** {seeds} runs in which every seed that the lesson's cells set is another. These
  start weights, order batches, mask, and draw the fresh examples that a lesson trains or tests on.
  Seeds that choose a data set (`ShapesDataset(seed=...)`, NumPy's and Python's own generators)
  stay, because they decide what is training and what is test data. Checkpoints and records stay
  too: they have seeds of their own, which stand in the records.
- **Results:** every assertion in a lesson, every line that ends in True or False, and that each
  cell runs. A result that is lost under some seed is no error of the course, but the lesson says
  more than it should if its prose counts on it.
"""


def table(record: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The text of docs/robustness.md.

    Args:
        record: as written by `make robust`.
        titles: title of each lesson, by the name of its notebook.
    """
    lessons = record["figures"]["lessons"]
    most = max((len(lesson["seeds"]) for lesson in lessons.values()), default=0)
    head = INTRODUCTION.format(
        runs=most + 2, seeds=most, date=record["date"], device=record["machine"]["device"]
    )
    parts = [head, "## Lessons", "", *_lesson_rows(lessons, titles), ""]
    parts += ["## Results that some seed did not give", "", *_lost_rows(lessons), ""]
    parts += ["## How far the figures spread", "", *_spread_rows(lessons, titles), ""]
    parts += ["## Unit tests on other Pythons", "", *_python_rows(record["figures"]["pythons"])]
    return "\n".join(parts).rstrip() + "\n"


def _lesson_rows(lessons: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[str]:
    yield "| Lesson | Seeds moved | Same again | Results that hold under all seeds |"
    yield "|---|---|---|---|"
    for name, lesson in lessons.items():
        same = lesson["compared"] - len(lesson["differ"])
        held = lesson["results"] - len(lesson["lost"])
        again = f"{same} of {lesson['compared']} cells"
        if lesson["differ"]:
            again += f" (not: {', '.join(map(_inline, dict.fromkeys(lesson['differ'])))})"
        title = f"[{name[:2]} {titles[name]}](../notebooks/{name}.ipynb)"
        yield f"| {title} | {lesson['shifted']} | {again} | {held} of {lesson['results']} |"


def _lost_rows(lessons: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {name[:2]} | {_inline(lost['heading'])} | {_code(lost['what'])} "
        f"| {lost['held']} of {len(lesson['seeds'])} |"
        for name, lesson in lessons.items()
        for lost in lesson["lost"]
    ]
    if not rows:
        return ["None."]
    return ["| Lesson | Section | Result | Held under |", "|---|---|---|---|", *rows]


def _spread_rows(lessons: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[str]:
    """Per lesson a table in a fold: together they are long."""
    for name, lesson in lessons.items():
        if not lesson["spread"]:
            continue
        yield f"<details><summary>{name[:2]} {html.escape(titles[name])}</summary>"
        yield ""
        yield "| Section | As printed, with the lowest and highest figure of all seeds |"
        yield "|---|---|"
        for row in lesson["spread"]:
            yield f"| {_inline(row['heading'])} | {_code(row['range'])} |"
        yield ""
        yield "</details>"
        yield ""


def _python_rows(pythons: Sequence[Mapping[str, Any]]) -> list[str]:
    if not pythons:
        return ["Not run yet."]
    rows = [
        f"| {row['python']} | {row['compiler']} | {row['torch']} | {row['passed']} "
        f"| {row['skipped']} | {', '.join(map(_code, row['failures'])) or 'none'} |"
        for row in pythons
    ]
    head = "| Python | Built by | PyTorch | Passed | Skipped | Failed |"
    return [head, "|---|---|---|---|---|---|", *rows]


def _inline(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    """Text as inline code in a table: bars escaped, runs of spaces shortened."""
    text = re.sub(r"\s+", " ", text).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"
