from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from zoo_lessons.datasets.docstrings import docstrings, modules

SOURCE = '''# A comment may come first.
"""The module's."""

NOT_ONE = """no docstring: """


class Thing:
    r"""The class's, with a \\d.

    Two lines.
    """

    text = """nor is this"""

    def method(self) -> str:  # a comment: here
        # and here
        \'\'\'The method's.\'\'\'
        return """nor this"""
'''


def test_docstrings_are_found_in_order() -> None:
    found = docstrings(SOURCE)
    assert found == [
        "The module's.",
        "The class's, with a \\d.\n\nTwo lines.",
        "The method's.",
    ]


@pytest.mark.parametrize("package", ["numpy", "sklearn"])
def test_nearly_all_are_those_that_the_parser_finds(package: str) -> None:
    parsed, found = set(), set()
    for name, path in list(modules(package))[::6]:
        source = path.read_text(encoding="utf-8")
        found |= {(name, text) for text in docstrings(source)}
        for node in ast.walk(ast.parse(source)):
            if isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ) and (text := ast.get_docstring(node)):
                parsed.add((name, text))
    assert len(parsed) > 200
    assert len(parsed & found) >= 0.97 * len(parsed)
    assert len(found - parsed) <= 0.01 * len(found)


def test_modules_are_named_in_order_and_leave_out_tests() -> None:
    names = [name for name, _ in modules("numpy")]
    assert names == sorted(names)
    assert {"numpy", "numpy.linalg", "numpy._core.numeric"} <= set(names)
    assert not any("tests" in name.split(".") for name in names)
    standard_library = {name for name, _ in modules("python")}
    assert {"json", "json.decoder", "statistics"} <= standard_library
    assert not any(name.startswith(("site-packages", "pydoc_data")) for name in standard_library)


def test_nothing_is_imported() -> None:
    code = (
        "import sys; from zoo_lessons.datasets.prose import paragraphs; "
        "paragraphs('docstrings', packages=['sklearn']); "
        "print('sklearn' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        list(modules("no_such_package"))
