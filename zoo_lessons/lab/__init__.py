"""What a lesson teaches with: checks, quizzes, figures, sources, widgets.

A lesson's set-up cell says `from zoo_lessons import lab` and `lab.begin("01")`; the rest is
`lab.check(...)`, `lab.show_figure(...)`, and so on.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import warnings
from typing import TYPE_CHECKING, Any

from zoo_lessons.lab.curriculum import lesson

# These have their module's name. Imported here, the name means the function from the start.
from zoo_lessons.lab.environment import environment
from zoo_lessons.lab.progress import forget_progress, progress
from zoo_lessons.lab.quiz import quiz

if TYPE_CHECKING:
    from zoo_lessons.lab.exercises import check
    from zoo_lessons.lab.plots import heatmap, heatmaps, lines, show_figure, training_curves
    from zoo_lessons.lab.source import show_source
    from zoo_lessons.lab.tables import (
        glossary,
        model_table,
        notation,
        report_card,
        routes,
        show_claim,
        topics,
    )

# name -> module; imported when first used, because PyTorch and matplotlib take a second each
_LAZY = {
    "check": "exercises",
    "glossary": "tables",
    "heatmap": "plots",
    "heatmaps": "plots",
    "lines": "plots",
    "model_table": "tables",
    "notation": "tables",
    "report_card": "tables",
    "routes": "tables",
    "show_claim": "tables",
    "show_figure": "plots",
    "show_source": "source",
    "topics": "tables",
    "training_curves": "plots",
}

__all__ = [
    "begin",
    "check",
    "environment",
    "forget_progress",
    "glossary",
    "heatmap",
    "heatmaps",
    "lines",
    "model_table",
    "notation",
    "progress",
    "quiz",
    "report_card",
    "routes",
    "show_claim",
    "show_figure",
    "show_source",
    "topics",
    "training_curves",
]

# Libraries read these when they are imported. A value that the user set stays.
_QUIET_LIBRARIES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}

# PyTorch's own Transformer, which lessons compare with, says these whenever it is built or run.
_KNOWN_WARNINGS = (
    r"enable_nested_tensor is True, but self\.use_nested_tensor is False",
    r"The PyTorch API of nested tensors is in prototype stage",
)

# torchao says these when it is imported, which transformers does: it misses CUDA's libraries.
_CHATTY_LOGGERS = ("torchao", "torch.utils._pytree")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def begin(number: str, seed: int = 0) -> None:
    """Make a notebook ready for a lesson: fixed seeds, the course's figures, quiet libraries.

    Nothing is fetched, and no library is told to report anything.

    Args:
        number: the lesson's two digits, "01".
        seed: for Python's, numpy's and PyTorch's random numbers.

    Raises:
        KeyError: there is no such lesson.
    """
    started = lesson(number)
    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)

    import numpy as np
    import torch

    from zoo_lessons.lab.plots import use_style

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    use_style()
    print(f"Lesson {started.number}, {started.title}: ready.")
