"""What is kept of a lesson's widgets is what they show, and is known to be stale when it is."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

from zoo_lessons.lab.widgets.attention_explorer import AttentionExplorer
from zoo_lessons.lab.widgets.states import (
    WIDGET_VIEW,
    code_hash,
    read_states,
    state_problems,
    states_path,
    widget_states,
    write_states,
)

CODE = """\
import numpy as np
from zoo_lessons.lab.widgets import AttentionExplorer, MaskExplorer
weights = np.linspace(0, 1, 8, dtype="float32").reshape(1, 2, 2, 2)
explorer = AttentionExplorer(weights / weights.sum(-1, keepdims=True), ["the", "cat"])
display(MaskExplorer(length=3), explorer)
print("done")
"""


def packed(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"__bytes__": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: packed(item) for key, item in value.items()}
    return [packed(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def executed() -> NotebookNode:
    cells = [
        v4.new_markdown_cell("# Lesson"),
        v4.new_code_cell(
            "import ipywidgets\nipywidgets.IntProgress()", metadata={"tags": ["setup"]}
        ),
        v4.new_code_cell(CODE),
    ]
    nb = v4.new_notebook(cells=cells)
    NotebookClient(nb, timeout=60, kernel_name="python3").execute()
    return nb


def test_states_hold_the_course_s_widgets_with_their_data(executed: NotebookNode) -> None:
    mask, explorer = widget_states(executed)
    assert [entry["cell"] for entry in (mask, explorer)] == [2, 2]
    assert mask["widget"] == "zoo_lessons.lab.widgets.mask_explorer.MaskExplorer"
    assert mask["text"].startswith("MaskExplorer: causal, 3 queries x 3 keys")
    assert not any(name.startswith(("_esm", "_css", "_view", "_model")) for name in mask["traits"])

    weights = np.linspace(0, 1, 8, dtype="float32").reshape(1, 2, 2, 2)
    wanted = AttentionExplorer(weights / weights.sum(-1, keepdims=True), ["the", "cat"]).get_state()
    assert explorer["traits"] == {name: packed(wanted[name]) for name in explorer["traits"]}
    assert "__bytes__" in str(explorer["traits"]), "the weights are sent as bytes"


def test_a_file_is_the_same_twice_and_goes_with_the_widgets(
    executed: NotebookNode, tmp_path: Path
) -> None:
    path = states_path(tmp_path, "01_attention")
    write_states(executed, path)
    first = path.read_bytes()
    write_states(executed, path)
    assert path.read_bytes() == first
    assert read_states(path) == {"code": code_hash(executed), "widgets": widget_states(executed)}

    write_states(v4.new_notebook(cells=[v4.new_code_cell("1 + 1")]), path)
    assert not path.exists()
    assert read_states(path) == {"code": None, "widgets": []}


def test_stale_states_are_found(executed: NotebookNode, tmp_path: Path) -> None:
    path = states_path(tmp_path, "01_attention")
    stored = nbformat.from_dict(executed)
    assert list(state_problems(stored, path)) == []  # no widgets, no file
    write_states(executed, path)
    for output in stored.cells[2].outputs:
        output.get("data", {}).pop(WIDGET_VIEW, None)
    assert list(state_problems(stored, path)) == []

    stored.cells[1].source = "another set-up, which the builder writes"
    assert list(state_problems(stored, path)) == []
    removed = stored.cells[2].outputs.pop(0)
    assert "does not show" in next(state_problems(stored, path))
    stored.cells[2].outputs.insert(0, removed)
    stored.cells[2].source += "\n# changed"
    assert "written by other code" in next(state_problems(stored, path))
