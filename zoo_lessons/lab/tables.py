"""The curriculum's tables as Markdown that a notebook renders: routes, notation, glossary."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.display import Markdown

from zoo_lessons.lab.curriculum import GLOSSARY, LESSONS, NOTATION, ROUTES
from zoo_lessons.paths import repository_root


def routes() -> Markdown:
    """Ways through the course: for whom, how long, which lessons in which order."""
    rows = []
    for route in ROUTES:
        lessons = [_link(stop.lesson) for stop in route.stops]
        whole = len(route.stops) == len(LESSONS)
        order = f"{lessons[0]} to {lessons[-1]}" if whole else " · ".join(lessons)
        rows.append((f"**{route.name}**", route.purpose, f"{route.minutes / 60:.0f} h", order))
    return _table(("Route", "For whom", "Time", "Lessons"), rows)


def notation() -> Markdown:
    """Every symbol of the formulas, with the name and shape it has in the code."""
    rows = [(f"${s.symbol}$", s.meaning, f"`{s.code}`", s.shape) for s in NOTATION]
    return _table(("Symbol", "Meaning", "In code", "Shape"), rows)


def glossary() -> Markdown:
    """Every term of the course, in alphabetical order, with the lesson that introduces it."""
    rows = [
        (f"**{term}**", entry.definition, _link(entry.lesson))
        for term, entry in sorted(GLOSSARY.items(), key=lambda item: item[0].lower())
    ]
    return _table(("Term", "Meaning", "Lesson"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markdown:
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _link(number: str) -> str:
    """The lesson's number, as a link when its notebook is there."""
    slug = next(lesson.slug for lesson in LESSONS if lesson.number == number)
    exists = (repository_root() / "notebooks" / f"{slug}.ipynb").is_file()
    return f"[{number}]({slug}.ipynb)" if exists else number
