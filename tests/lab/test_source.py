"""What `show_source` shows is the library's source, line for line."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

import zoo_lessons
from zoo_lessons.lab import curriculum
from zoo_lessons.lab.curriculum import Route, lesson
from zoo_lessons.lab.source import show_source

ROOT = Path(zoo_lessons.__file__).parents[1]


def lines_of(source):
    return (ROOT / source.file).read_text("utf8").splitlines()[source.first - 1 : source.last]


@pytest.mark.parametrize("obj", [lesson, Route, curriculum])
def test_shown_lines_are_the_lines_of_the_named_file(obj):
    source = show_source(obj)
    assert source.file == "zoo_lessons/lab/curriculum.py"
    assert source.text.splitlines() == lines_of(source)
    assert f"lines {source.first}-{source.last}" in repr(source)


def test_methods_are_dedented():
    assert show_source(Route.minutes.fget).text.startswith("@property\ndef minutes")


def test_a_part_is_counted_from_the_objects_first_line():
    part = show_source(lesson, lines=(2, 3))
    assert part.text.splitlines() == [
        line.strip() for line in show_source(lesson).text.splitlines()[1:3]
    ]
    assert (part.first, part.last) == (show_source(lesson).first + 1, show_source(lesson).first + 2)


def test_docstrings_can_be_left_out():
    source = show_source(Route, without_docstring=True)
    assert '"""' not in source.text
    assert "def minutes(self)" in source.text
    assert "without docstrings" in repr(source)
    assert (source.first, source.last) == (show_source(Route).first, show_source(Route).last)


def test_html_holds_the_same_text_and_follows_the_theme():
    source = show_source(lesson)
    page = source._repr_html_()
    shown = re.search(r"<pre[^>]*>(.*)</pre>", page, re.S).group(1)
    assert html.unescape(re.sub(r"<[^>]+>", "", shown)) == source.text.rstrip("\n")
    assert "var(--jp-mirror-editor-keyword-color" in shown
    assert page == show_source(lesson)._repr_html_()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: show_source(json.dumps), ValueError, "dumps is not part of zoo_lessons"),
        (lambda: show_source(3), TypeError, "needs a function, class or module, got 3"),
        (lambda: show_source(len), TypeError, "needs a function"),
        (lambda: show_source(lesson, lines=(0, 2)), ValueError, r"within 1 to \d+"),
        (
            lambda: show_source(lesson, lines=(1, 2), without_docstring=True),
            ValueError,
            "not both",
        ),
    ],
)
def test_what_cannot_be_shown(make, error, message):
    with pytest.raises(error, match=message):
        make()
