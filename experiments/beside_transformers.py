"""Models of the zoo beside those of `transformers`: same numbers, code, size, time and memory.

- Difference: both models get the same random weights, in a small size that is not the default
  anywhere; the largest difference over all outputs, relative to the largest output. The tests hold
  a bound on it; here it is reported.
- Lines of code: blank lines, comments and docstrings do not count. Our files share their layers
  with each other, `transformers`' modelling files share none: the layers are counted beside.
- Parameters: of the published size, ours and theirs, next to the count that was published.
- Time and memory: one forward pass of the published size, random weights, side by side. Theirs runs
  with its default attention, PyTorch's fused one, and keeps no cache, as ours. Memory is what
  PyTorch allocates at most during the pass, beyond the weights.

The tables, `model_table` and `vision_model_table`, hold the models: a new one is one more `Entry`.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import io
import tokenize
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from zoo_lessons.bench import CONTROL, compare, peak_memory
from zoo_lessons.parity import randomise, relative_difference
from zoo_lessons.training import seed_everything
from zoo_lessons.weights import from_transformers

BATCH, LENGTH = 2, 32  # examples, and tokens in each of them where they are texts
ROUNDS = 11
Inputs = Callable[[Any, int, int], dict[str, Tensor]]
SHARED = [  # what every row is measured with; that weights are loaded right, the tests hold
    "experiments.beside_transformers",
    "zoo_lessons.bench",
    "zoo_lessons.layers.attention",
    "zoo_lessons.layers.blocks",
    "zoo_lessons.layers.cache",
    "zoo_lessons.layers.checks",
    "zoo_lessons.layers.positions",
    "zoo_lessons.parity",
]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        model: what the row is called.
        ours: our class.
        config: our config of the published size.
        theirs: the class of `transformers`; None where it has none, then nothing is compared.
        small: its config of a small size, not the default in any field.
        published: its config of the published size; ours, where it has none.
        inputs: makes the inputs for one of these configs, a batch size and a text's length.
        fields: the outputs that are compared.
        count: the number of parameters as published.
        source: where it was published.
        scale: the size of the random weights; deep and narrow models need larger ones.
    """

    model: str
    ours: type[nn.Module]
    config: Any
    theirs: type[transformers.PreTrainedModel] | None
    small: transformers.PreTrainedConfig | None
    published: Any
    inputs: Inputs
    fields: tuple[str, ...]
    count: str
    source: str
    scale: float = 0.2


def difference(entry: Entry, dtype: torch.dtype) -> float:
    """The largest relative difference of any output, where the input is not padding."""
    theirs = randomised(entry).to(dtype)
    ours = from_transformers(theirs)
    inputs = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in entry.inputs(entry.small, 3, 11).items()
    }
    real = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
    with torch.no_grad():
        outputs = ours(**inputs), theirs(**inputs)
    found = []
    for field in entry.fields:
        a, b = (getattr(output, field) for output in outputs)
        if real is not None and a.shape[:2] == real.shape:
            a, b = a[real], b[real]
        found.append(relative_difference(a, b))
    return max(found)


def randomised(entry: Entry) -> nn.Module:
    """Their small model with random weights. What is never trained (sinusoids) stays."""
    model = entry.theirs(copy.deepcopy(entry.small))
    fixed = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    randomise(model, scale=entry.scale)
    with torch.no_grad():
        for name, value in fixed.items():
            model.get_parameter(name).copy_(value)
    return model


def parameters(entry: Entry) -> dict[str, int | None]:
    """Trainable parameters at the published size, counted without memory for them."""
    with torch.device("meta"):
        ours = entry.ours(entry.config)
        theirs = entry.theirs(entry.published) if entry.theirs else None
    return {"ours": trainable(ours), "theirs": trainable(theirs) if theirs else None}


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def cost(entry: Entry) -> dict[str, Any]:
    """Milliseconds and mebibytes of one forward pass; seconds of ours over theirs."""
    if entry.theirs is None:
        both = {"ours": entry.ours(entry.config).eval()}
    else:
        theirs = entry.theirs(copy.deepcopy(entry.published)).eval()
        both = {"theirs": theirs, "ours": from_transformers(theirs)}
    inputs = entry.inputs(entry.published, BATCH, LENGTH)
    run = {side: forward(model, inputs) for side, model in both.items()}
    times = compare(run, rounds=ROUNDS)
    compared = {
        "ratio": times.ratio("ours"),
        "interval": list(times.interval("ours")),
        "control_interval": list(times.interval(CONTROL)),
        "verdict": times.verdict("ours"),
    }
    memory = {side: round(peak_memory(function) / 2**20, 1) for side, function in run.items()}
    return {
        "time": {
            "milliseconds": 1e3 * times.median("ours"),
            **(compared if entry.theirs else {}),
        },
        "memory": {"theirs": None, **memory},
    }


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        model(**inputs)

    return run


def lines(entry: Entry) -> dict[str, Any]:
    """Lines of code of our file, of the layers that it imports, and of their file."""
    ours = Path(inspect.getsourcefile(entry.ours))
    theirs = Path(inspect.getsourcefile(entry.theirs)) if entry.theirs else None
    return {
        "file": ours.name,
        "ours": code_lines(ours),
        "layers": sum(code_lines(path) for path in imported_layers(ours)),
        "theirs": code_lines(theirs) if theirs else None,
    }


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, no comment, no docstring."""
    source = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].value.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    }
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        first, last = token.start[0], token.end[0]
        if token.type in silent or (token.type == tokenize.STRING and first in docstrings):
            continue
        found.update(range(first, last + 1))
    return len(found)


def imported_layers(path: Path) -> set[Path]:
    """The files of `zoo_lessons.layers` that a file imports, and that those import."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("zoo_lessons.layers."):
                layer = Path(importlib.import_module(node.module).__file__)
                if layer not in found:
                    found.add(layer)
                    waiting.append(layer)
    return found


def row(entry: Entry) -> Mapping[str, Any]:
    """Everything that the table says about one model."""
    seed_everything(0)
    precisions = {"float64": torch.float64, "float32": torch.float32}
    return {
        "model": entry.model,
        "ours": entry.ours.__name__,
        "theirs": entry.theirs.__name__ if entry.theirs else None,
        "difference": {
            name: difference(entry, dtype) if entry.theirs else None
            for name, dtype in precisions.items()
        },
        "lines": lines(entry),
        "parameters": {**parameters(entry), "published": entry.count, "source": entry.source},
        **cost(entry),
    }


def table(entries: Iterable[Entry]) -> dict[str, Any]:
    """The figures of a record: a row for each model, and what was run."""
    return {
        "transformers": transformers.__version__,
        "batch": BATCH,
        "rows": [row(entry) for entry in entries],
    }
