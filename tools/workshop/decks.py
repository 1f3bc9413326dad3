"""Slides of every lesson as web pages that load nothing from outside their folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import nbformat
from nbconvert.exporters import SlidesExporter
from pygments.formatters import HtmlFormatter

from tools.workshop import assets
from tools.workshop.lesson_slides import slide_notebook
from zoo_lessons.lab.curriculum import LESSONS, PARTS, Lesson

ROOT = Path(__file__).resolve().parents[2]

INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Transformer Zoo Lessons: slides</title>
<link rel="icon" href="data:,">
<style>
body {{ max-width: 46em; margin: 2em auto; padding: 0 1em; font: 17px/1.5 sans-serif; }}
kbd {{ padding: 0 0.4em; border: 1px solid #999; border-radius: 3px; }}
</style>
</head>
<body>
<h1>Transformer Zoo Lessons: slides</h1>
<p><kbd>→</kbd> next section, <kbd>↓</kbd> next slide of a section, <kbd>Space</kbd> or
<kbd>Page Down</kbd> next slide in any case; <kbd>O</kbd> overview, <kbd>F</kbd> full screen,
<kbd>S</kbd> speaker notes, <kbd>?</kbd> all keys.</p>
<p>Speaker notes open in a second window. Browsers allow that only to a page from a server: type
<code>python -m http.server --bind 127.0.0.1</code> in this folder, and open
<code>http://127.0.0.1:8000</code>.</p>
{parts}
</body>
</html>
"""


def lessons_with_notebooks(root: Path, numbers: Sequence[str] = ()) -> list[Lesson]:
    """The lessons that can be shown, or those of them with these numbers.

    Raises:
        ValueError: a number fits no lesson.
    """
    there = [x for x in LESSONS if (root / "notebooks" / f"{x.slug}.ipynb").is_file()]
    unknown = sorted(set(numbers) - {lesson.number for lesson in there})
    if unknown:
        known = ", ".join(lesson.number for lesson in there)
        raise ValueError(f"no lesson {', '.join(unknown)}; there are: {known}")
    return [lesson for lesson in there if not numbers or lesson.number in numbers]


def write_decks(
    root: Path, folder: Path, wheels: list[Path], numbers: Sequence[str] = ()
) -> Iterator[Path]:
    """Write the slides of each lesson into `folder`; yield each page as soon as it is there.

    Args:
        root: the repository.
        wheels: what `assets.fetch` gave.
        numbers: of the lessons; without them, all.
    """
    lessons = lessons_with_notebooks(root, numbers)
    assets.unpack(wheels, folder / "assets")
    styles = HtmlFormatter(style="default").get_style_defs(".highlight")
    (folder / "assets" / "code.css").write_text(styles + "\n", "utf8")
    exporter = _exporter()
    slugs = [lesson.slug for lesson in lessons]
    for lesson in lessons:
        nb = nbformat.read(root / "notebooks" / f"{lesson.slug}.ipynb", as_version=4)
        page, _ = exporter.from_notebook_node(slide_notebook(nb, lesson, slugs))
        target = folder / f"{lesson.slug}.html"
        target.write_text(page, "utf8")
        yield target
    (folder / "index.html").write_text(_index(lessons), "utf8")


def _exporter() -> SlidesExporter:
    return SlidesExporter(
        template_name=assets.TEMPLATE.name,
        extra_template_basedirs=[str(assets.TEMPLATE.parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        # Lessons are ours: their outputs keep the style attributes that a cleaner would take out.
        sanitize_html=False,
    )


def _index(lessons: Sequence[Lesson]) -> str:
    parts = []
    for part, name in PARTS.items():
        items = [
            f'<li><a href="{x.slug}.html">{escape(f"{x.number} · {x.title}")}</a>, '
            f"{x.minutes} minutes: {escape(x.question)}</li>"
            for x in lessons
            if x.part == part
        ]
        if items:
            parts.append(f"<h2>{part} · {escape(name)}</h2>\n<ul>\n" + "\n".join(items) + "\n</ul>")
    return INDEX.format(parts="\n".join(parts))
