"""The docstrings of an installed package, read from its source files without importing it."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

# Folders without prose of the package's own: tests, copies of other packages, generated code, and
# the reference itself, which is the other source. Folders that begin with an underscore are left
# out too (torch has a hundred thousand words of compiler internals there), except numpy's core.
_SKIPPED_FOLDERS = frozenset(
    "test tests testing externals extern array_api_compat array_api_extra site-packages "
    "dist-packages idlelib lib2to3 pydoc_data turtledemo encodings include".split()
)
_KEPT_FOLDERS = frozenset({"_core"})


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """The dotted names and files of a package's modules, in alphabetical order.

    Args:
        package: the name by which a top-level package is imported, or "python" for the standard
            library.

    Raises:
        ModuleNotFoundError: a package that is not installed.
    """
    if package == "python":
        root, prefix = Path(sysconfig.get_path("stdlib")), ()
    else:
        spec = find_spec(package)  # finds a top-level package without importing it
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                f"package={package!r} is not an installed package; install it, or choose another"
            )
        root, prefix = Path(spec.submodule_search_locations[0]), (package,)
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if _has_prose(name)]
        inside = Path(folder).relative_to(root).parts
        for file in files:
            if file.endswith(".py"):
                stem = () if file == "__init__.py" else (file.removesuffix(".py"),)
                found.append((".".join((*prefix, *inside, *stem)), Path(folder, file)))
    yield from sorted(found)


def _has_prose(folder: str) -> bool:
    return folder in _KEPT_FOLDERS or not (folder.startswith("_") or folder in _SKIPPED_FOLDERS)


# A docstring is the first statement of a module, class or function: a string at the beginning of a
# line, with nothing before it but comments, or below a line that ends with a colon.
_DOCSTRING = re.compile(
    r"""(?:\A|:[ \t]*(?:\#[^\n]*)?\n)(?:\s*\#[^\n]*\n)*\s*
    (?P<literal>[rRuU]?(?P<quote>\"{3}|'{3}).*?(?<!\\)(?P=quote))""",
    re.VERBOSE | re.DOTALL,
)


def docstrings(source: str) -> list[str]:
    """The triple-quoted docstrings of a Python file, in order, with their indentation removed.

    It looks for strings where docstrings stand, which is many times faster than parsing the file,
    and finds the same but for a few (tests/datasets/test_docstrings.py counts them).
    """
    found = []
    for match in _DOCSTRING.finditer(source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a "\s" that should have been a raw string
            try:
                found.append(cleandoc(ast.literal_eval(match["literal"])))
            except (SyntaxError, ValueError):  # not a literal: an example inside another string
                continue
    return found
