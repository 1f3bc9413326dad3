"""Where the course keeps its files: the repository root and its `data/` folder."""

from __future__ import annotations

import os
from pathlib import Path


def repository_root() -> Path:
    """The folder that holds `notebooks/` and `data/`.

    `ZOO_LESSONS_ROOT` wins when it is set. Otherwise this is the checkout that the package was
    imported from, which holds for the editable install that `make lab` and Colab use.

    Raises:
        FileNotFoundError: the package runs outside a checkout and `ZOO_LESSONS_ROOT` is not set.
    """
    root = Path(os.environ.get("ZOO_LESSONS_ROOT") or Path(__file__).resolve().parents[1])
    if not (root / "data").is_dir():
        raise FileNotFoundError(
            f"no course data under {root}: clone the repository and install it with "
            "`pip install -e .`, or set ZOO_LESSONS_ROOT to the clone"
        )
    return root


def data_dir() -> Path:
    """The repository's `data/` folder: checkpoints, recorded results, small samples."""
    return repository_root() / "data"
