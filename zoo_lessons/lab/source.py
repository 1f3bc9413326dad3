"""Show the library's own source in a lesson, so that what is read is what runs."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pygments import lex
from pygments.lexers import PythonLexer
from pygments.token import Token, _TokenType

import zoo_lessons

# JupyterLab's own editor colours, light or dark; the second colour is for other viewers.
_COLORS = {
    Token.Keyword: "var(--jp-mirror-editor-keyword-color,#006d1b)",
    Token.Operator.Word: "var(--jp-mirror-editor-keyword-color,#006d1b)",
    Token.Name.Builtin: "var(--jp-mirror-editor-builtin-color,#006d1b)",
    Token.Name.Function: "var(--jp-mirror-editor-def-color,#0000c8)",
    Token.Name.Class: "var(--jp-mirror-editor-def-color,#0000c8)",
    Token.Name.Decorator: "var(--jp-mirror-editor-meta-color,#8a2be2)",
    Token.Literal.Number: "var(--jp-mirror-editor-number-color,#006d1b)",
    Token.Literal.String: "var(--jp-mirror-editor-string-color,#a31515)",
    Token.Comment: "var(--jp-mirror-editor-comment-color,#3a6a6a)",
}


@dataclass(frozen=True)
class Source:
    """Lines `first` to `last` of `file`, a path below the repository, and what to show of them."""

    file: str
    first: int
    last: int
    text: str
    note: str = ""

    def __repr__(self) -> str:
        return f"{self._heading()}\n\n{self.text}"

    def _heading(self) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.file}, lines {self.first}-{self.last}{note}: the library's current code"

    def _repr_html_(self) -> str:
        label = f"Source of {self.file}, line {self.first}"
        return (
            '<div style="border:1px solid var(--jp-border-color1,#bdbdbd);border-radius:4px;'
            "max-width:900px;background:var(--jp-cell-editor-background,#f7f7f7);"
            'color:var(--jp-content-font-color1,#1f1f1f)">'
            '<div style="padding:6px 12px;font-size:13px;'
            'border-bottom:1px solid var(--jp-border-color1,#bdbdbd)">'
            f"{html.escape(self._heading())}</div>"
            f'<pre tabindex="0" role="region" aria-label="{html.escape(label)}" '
            'style="margin:0;padding:8px 12px;overflow-x:auto;background:transparent;'
            "color:inherit;font-family:var(--jp-code-font-family,monospace);"
            'font-size:13px;line-height:1.45">'
            f"{_highlighted(self.text)}</pre></div>"
        )


def show_source(
    obj: Callable | type | ModuleType,
    *,
    lines: tuple[int, int] | None = None,
    without_docstring: bool = False,
) -> Source:
    """The library's source of a function, class or module, ready to be shown by a notebook.

    Args:
        obj: something that this library defines.
        lines: (first, last) to show only a part, counted from 1 at the object's first line.
        without_docstring: leave out the object's docstrings.

    Raises:
        TypeError: the object has no source, such as a number or a built-in.
        ValueError: it is not part of this library, or `lines` lie outside its source.
    """
    obj = inspect.unwrap(obj) if callable(obj) else obj
    try:
        file = Path(inspect.getsourcefile(obj) or "")
        found, start = inspect.getsourcelines(obj)
    except (TypeError, OSError) as error:
        raise TypeError(f"show_source needs a function, class or module, got {obj!r}") from error
    package = Path(zoo_lessons.__file__).parent
    if not file.is_relative_to(package):
        name = getattr(obj, "__name__", repr(obj))
        raise ValueError(f"{name} is not part of zoo_lessons: show_source shows the library's code")
    start = max(start, 1)  # a module starts at 0
    first, last = lines or (1, len(found))
    if not 1 <= first <= last <= len(found):
        raise ValueError(f"lines={lines} must lie within 1 to {len(found)}")
    text, note = textwrap.dedent("".join(found[first - 1 : last])), ""
    if without_docstring:
        if lines is not None:
            raise ValueError("show_source takes lines or without_docstring, not both")
        text, note = _without_docstrings(text), "without docstrings"
    name = file.relative_to(package.parent).as_posix()
    return Source(name, start + first - 1, start + last - 1, text, note)


def _without_docstrings(source: str) -> str:
    lines = source.splitlines(keepends=True)
    drop: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            continue
        if ast.get_docstring(node, clean=False) is None or len(node.body) == 1:
            continue  # a body needs at least one statement
        docstring = node.body[0]
        drop.update(range(docstring.lineno - 1, docstring.end_lineno))
        after = docstring.end_lineno
        if after < len(lines) and not lines[after].strip():
            drop.add(after)
    return "".join(line for index, line in enumerate(lines) if index not in drop)


def _highlighted(source: str) -> str:
    parts = []
    for kind, text in lex(source, PythonLexer(stripnl=False)):
        color = _color(kind)
        escaped = html.escape(text)
        parts.append(f'<span style="color:{color}">{escaped}</span>' if color else escaped)
    return "".join(parts).rstrip("\n")


def _color(kind: _TokenType) -> str:
    while kind is not None and kind not in _COLORS:
        kind = kind.parent
    return _COLORS.get(kind, "")
