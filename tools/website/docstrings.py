"""Docstrings of the library, made ready for Sphinx.

Napoleon reads the sections (Args, Returns, Raises). The rest is written for people who read source:
Markdown tables, indented lists of fields, lists without a blank line, and |x| for absolute values.
reStructuredText would read these as something else, so they are rewritten here.
"""

from __future__ import annotations

import re
from typing import Any

_RULE = re.compile(r"^\s*\|(\s*:?-+:?\s*\|)+\s*$")
_FIELD = re.compile(r'^( *)("?[\w.*`]+"?(?:, "?[\w.*`]+"?)*): (\S.*)$')
_FLUSH_FIELD = re.compile(r"[a-z_][\w, *`]*: \S")
_BULLET = re.compile(r" *- ")
_SECTION = re.compile(r"^ *(Args|Attributes|Example|Examples|Note|Raises|Returns|Yields):$")
_CODE = re.compile(r"(``.+?``|`[^`]*`)")


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's autodoc-process-docstring: rewrite the lines in place, before napoleon does."""
    lines[:] = as_rst(lines)


def as_rst(lines: list[str]) -> list[str]:
    """A docstring's lines, outside napoleon's sections, as reStructuredText."""
    result: list[str] = []
    at = 0
    in_section = False  # napoleon's
    while at < len(lines):
        line = lines[at]
        if line.strip() and not line.startswith(" "):
            in_section = False
        if _SECTION.match(line):
            in_section = True
            result.append(line)
            at += 1
        elif at + 1 < len(lines) and line.lstrip().startswith("|") and _RULE.match(lines[at + 1]):
            end = _while(lines, at, lambda text: text.lstrip().startswith("|"))
            rows = [line, *lines[at + 2 : end]]
            result += _list_table([_cells(row) for row in rows], line[: _indent(line)])
            at = end
        elif not in_section and _starts_fields(lines, at):
            end = _end_of_block(lines, at)
            result += ["", *_bullets(lines[at:end], _indent(line)), ""]
            at = end
        else:
            if _BULLET.match(line) and result and _swallows(result[-1], _indent(line)):
                result.append("")
            result.append(_escaped(line))
            at += 1
    return result


def _while(lines: list[str], start: int, holds: Any) -> int:
    end = start
    while end < len(lines) and holds(lines[end]):
        end += 1
    return end


def _end_of_block(lines: list[str], start: int) -> int:
    """Where the lines end that are indented at least as the first, without a blank one."""
    inner = _indent(lines[start])
    return _while(lines, start, lambda text: bool(text.strip()) and _indent(text) >= inner)


def _starts_fields(lines: list[str], at: int) -> bool:
    """Does a list of fields, `name: what it is`, begin here?

    It is indented; or flush with the text, where nothing but fields follows the first sentence.
    """
    if not _FIELD.match(lines[at]):
        return False
    before = next((text for text in reversed(lines[:at]) if text.strip()), "")
    if _indent(lines[at]):
        return _indent(before) < _indent(lines[at])
    block = lines[at : _end_of_block(lines, at)]
    return bool(before) and all(x.startswith(" ") or _FLUSH_FIELD.match(x) for x in block)


def _bullets(lines: list[str], inner: int) -> list[str]:
    bullets = []
    for line in lines:
        found = _FIELD.match(line)
        if found and _indent(line) == inner:
            name = found[2] if "`" in found[2] else f"``{found[2]}``"
            bullets.append(f"- {name}: {_escaped(found[3])}")
        else:
            bullets.append(f"  {_escaped(line.strip())}")
    return bullets


def _swallows(before: str, indent: int) -> bool:
    """Is the line before a bullet a paragraph's, which would take the bullet for its own text?"""
    return bool(before.strip()) and not _BULLET.match(before) and _indent(before) <= indent


def _escaped(line: str) -> str:
    """The line with | as a plain letter, except in code."""
    parts = _CODE.split(line)
    return "".join(part if i % 2 else part.replace("|", r"\|") for i, part in enumerate(parts))


def _cells(row: str) -> list[str]:
    return [_escaped(cell.strip()) for cell in row.strip().strip("|").split("|")]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _list_table(rows: list[list[str]], indent: str) -> list[str]:
    table = ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
    for row in rows:
        for column, cell in enumerate(row):
            start = "* -" if column == 0 else "  -"
            table.append(f"{indent}   {start} {cell}".rstrip())
    return [*table, ""]
