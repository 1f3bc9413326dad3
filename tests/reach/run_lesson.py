"""Run one notebook as a learner's JupyterLab would, and say where and as whom it ran.

    python run_lesson.py NOTEBOOK

Prints one line of JSON. Exits with 1, and the cell's traceback, when a cell fails.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

CELL_TIMEOUT_S = 600
WHERE = "import zoo_lessons as _zoo; print(_zoo.__file__)"


def main(path: Path) -> int:
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell(WHERE))
    client = NotebookClient(
        nb,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"user": os.geteuid(), "library": nb.cells[-1].outputs[-1].text.strip()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
