"""Imports inside the library point one way, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "zoo_lessons"
# Beside the folders: what serves a model file. All other modules there use models.
SERVES_MODELS = {"generation", "contrastive", "image_text_losses"}
ANYTHING = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
# A folder (or module) -> what its files may import.
MAY_IMPORT = {
    "layers": {"layers"},
    "models": {"layers", "models", *SERVES_MODELS},
    "training": ANYTHING - {"deploy", "datasets", "lab"},
    "deploy": ANYTHING - {"lab"},
    "datasets": {"datasets"},
    "lab": ANYTHING - {"models"},
    **dict.fromkeys(SERVES_MODELS, {"layers", *SERVES_MODELS}),
}


def parts_imported(source: str) -> Iterator[str]:
    """The folder or module of the library behind each import; those for type checkers left out."""
    nodes = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "zoo_lessons":
            names = [f"zoo_lessons.{each.name}" for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("zoo_lessons."))
        nodes += ast.iter_child_nodes(node)


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_point_one_way(part):
    files = (
        [PACKAGE / f"{part}.py"]
        if part in SERVES_MODELS
        else sorted(PACKAGE.glob(f"{part}/**/*.py"))
    )
    exercises = PACKAGE / "lab" / "exercises"  # these hold lessons' own answers, models included
    wrong = [
        f"{path.relative_to(PACKAGE).as_posix()} imports {found}"
        for path in files
        if exercises not in path.parents
        for found in parts_imported(path.read_text(encoding="utf-8"))
        if found not in MAY_IMPORT[part]
    ]
    assert files and not wrong


def test_every_kind_of_import_is_seen():
    source = """
from __future__ import annotations
import torch, zoo_lessons.models.vit
from zoo_lessons import deploy
if TYPE_CHECKING:
    from zoo_lessons.lab import quiz
def late():
    from zoo_lessons.training.fit import fit
"""
    assert set(parts_imported(source)) == {"models", "deploy", "training"}
