"""What a lesson's widgets showed when the lesson was executed, kept for the website.

A stored notebook holds a picture and a line of text of each widget, but no widget state: that
would double its size and tie it to one version of Jupyter. The website needs the state, because
there the widgets are drawn by their own scripts without a kernel. So the builder, which executes
a lesson anyway, writes the traits of its widgets to `docs/widgets/NN_slug.json.gz`: the data only,
for the scripts and styles are the library's.

A file belongs to the code that made it, and says so by a hash; `state_problems` finds what is
stale.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
_CLASS = "_anywidget_id"
# Jupyter's own traits: how a notebook finds, lays out and styles a view.
_OF_JUPYTER = {"_esm", "_css", _CLASS, "_dom_classes", "layout", "tabbable", "tooltip"}
_OF_JUPYTER |= {f"_{part}_{what}" for part in ("model", "view") for what in ("name", "module")}
_OF_JUPYTER |= {f"_{part}_module_version" for part in ("model", "view")} | {"_view_count"}


def states_path(root: Path, slug: str) -> Path:
    """Where the states of the lesson `slug` are kept."""
    return root / "docs" / "widgets" / f"{slug}.json.gz"


def code_hash(nb: NotebookNode) -> str:
    """Hash of the code that the lesson's author wrote: the set-up cell is the builder's."""
    code = [
        cell.source
        for cell in nb.cells
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", [])
    ]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()


def widget_states(nb: NotebookNode) -> list[dict[str, Any]]:
    """The course's widgets in an executed notebook, in the order in which they are shown.

    Args:
        nb: as nbclient leaves it: widget views in the outputs, their states in the metadata.

    Returns:
        One entry per output: `cell` (index), `text` (the output's text/plain), `widget` (the full
        name of its class) and `traits`, in which bytes stand as `{"__bytes__": base64}`.
    """
    models = nb.metadata.get("widgets", {}).get(_WIDGET_STATE, {}).get("state", {})
    entries = []
    for index, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(WIDGET_VIEW)
            model = models.get(view["model_id"]) if view else None
            if model is None or not model["state"].get(_CLASS, "").startswith("zoo_lessons."):
                continue  # a progress bar is no widget of the course
            entries.append(
                {
                    "cell": index,
                    "text": output.data["text/plain"],
                    "widget": model["state"][_CLASS],
                    "traits": _traits(model),
                }
            )
    return entries


def _traits(model: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in model["state"].items() if name not in _OF_JUPYTER}
    traits = json.loads(json.dumps(kept))  # a copy: the notebook's own state stays as it was
    for buffer in model.get("buffers", []):
        place: Any = traits
        *way, last = buffer["path"]
        for step in way:
            place = place[step]
        place[last] = {"__bytes__": buffer["data"]}
    return traits


def write_states(nb: NotebookNode, path: Path) -> None:
    """Write the widget states of a notebook that was just executed; same states, same bytes.

    A lesson without widgets has no file.
    """
    entries = widget_states(nb)
    if not entries:
        path.unlink(missing_ok=True)
        return
    text = json.dumps(
        {"code": code_hash(nb), "widgets": entries}, sort_keys=True, separators=(",", ":")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_states(path: Path) -> dict[str, Any]:
    """What `write_states` wrote: `code` (a hash) and `widgets`; None and [] without a file."""
    if not path.exists():
        return {"code": None, "widgets": []}
    return json.loads(gzip.decompress(path.read_bytes()))


def state_problems(nb: NotebookNode, path: Path) -> Iterator[str]:
    """What is wrong with the states of a stored notebook."""
    states = read_states(path)
    if states["code"] is None:
        return
    if states["code"] != code_hash(nb):
        yield f"{path.name} was written by other code: build the lesson again"
        return
    for entry in states["widgets"]:
        texts = [output.get("data", {}).get("text/plain") for output in _outputs(nb, entry["cell"])]
        if entry["text"] not in texts:
            yield f"{path.name} has a widget that cell {entry['cell']} does not show"


def _outputs(nb: NotebookNode, cell: int) -> list[NotebookNode]:
    return nb.cells[cell].get("outputs", []) if cell < len(nb.cells) else []
