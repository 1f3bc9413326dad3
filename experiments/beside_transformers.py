"""Models of the zoo beside those of `transformers`: same numbers, code, size, time and memory.

- Difference: both models get the same random weights, in a small size that is not the default
  anywhere; the largest difference over all outputs, relative to the largest output. The tests hold
  a bound on it; here it is reported.
- Lines of code: blank lines, comments and docstrings do not count. Our files share their layers
  with each other, `transformers`' modelling files share none: the layers are counted beside.
- Parameters: of the published size, ours and theirs, next to the count that was published.
- Time and memory: one forward pass of the published size, random weights, side by side. Theirs runs
  with its default attention, PyTorch's fused one, and keeps no cache, as ours. Memory is what
  PyTorch allocates at most during the pass, beyond the weights. A model that takes seconds a pass
  is timed with smaller inputs, which its row names, or in fewer rounds.

The tables (`model_table`, and those for vision, for image and text, and for efficiency) hold the
models: a new one is one more `Entry`. Where `transformers` has a part of a model only, both sides
are a `Part`: it gives the part a model's manners, and names the classes whose lines count.
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
ROUNDS, FEW_ROUNDS = 11, 7
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


class Part(nn.Module):
    """A part of a model, built from a config and called with inputs by name, as a model is.

    Attributes:
        classes: what the part is made of; the first is the part itself.
        config: what it was built from.
        part: the part itself.
    """

    classes: tuple[type[nn.Module], ...]

    def __init__(self, config: transformers.PreTrainedConfig, part: nn.Module):
        super().__init__()
        self.config, self.part = config, part


@dataclass
class PartOutput:
    output: Tensor


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
        convert: gives our model with the weights of theirs.
        timed: the config that is timed; the published one, if None.
        timed_with: says in the table what is timed, where that is not what its note says.
        rounds: how often each side is timed.
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
    convert: Callable[[nn.Module], nn.Module] = from_transformers
    timed: Any = None
    timed_with: str = ""
    rounds: int = ROUNDS


def difference(entry: Entry, dtype: torch.dtype) -> float:
    """The largest relative difference of any output, where the input is not padding."""
    theirs = randomised(entry).to(dtype)
    ours = entry.convert(theirs)
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
    config = entry.timed or entry.published
    if entry.theirs is None:
        both = {"ours": entry.ours(config).eval()}
    else:
        theirs = entry.theirs(copy.deepcopy(config)).eval()
        both = {"theirs": theirs, "ours": entry.convert(theirs).eval()}
    inputs = entry.inputs(config, BATCH, LENGTH)
    run = {side: forward(model, inputs) for side, model in both.items()}
    times = compare(run, rounds=entry.rounds, warmup=1)  # a pass is long: one call warms it up
    compared = {
        "ratio": times.ratio("ours"),
        "interval": list(times.interval("ours")),
        "control_interval": list(times.interval(CONTROL)),
        "verdict": times.verdict("ours"),
    }
    memory = {side: round(peak_memory(function) / 2**20, 1) for side, function in run.items()}
    return {
        "time": {
            "with": entry.timed_with,
            "rounds": entry.rounds,
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
    """Lines of code of our file, of the layers that it imports, and of their file.

    Of a part, the lines of the classes that it is made of.
    """
    ours = Path(inspect.getsourcefile(classes_of(entry.ours)[0]))
    return {
        "file": ours.name,
        "ours": model_lines(entry.ours),
        "layers": sum(code_lines(path.read_text("utf-8")) for path in imported_layers(ours)),
        "theirs": model_lines(entry.theirs) if entry.theirs else None,
    }


def classes_of(model: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    return model.classes if issubclass(model, Part) else (model,)


def model_lines(model: type[nn.Module]) -> int:
    """Lines of a model's file, or of a part's classes."""
    if issubclass(model, Part):
        return sum(code_lines(inspect.getsource(each)) for each in model.classes)
    return code_lines(Path(inspect.getsourcefile(model)).read_text("utf-8"))


def code_lines(source: str) -> int:
    """Lines that hold code: not blank, no comment, no docstring."""
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
        "ours": classes_of(entry.ours)[0].__name__,
        "theirs": classes_of(entry.theirs)[0].__name__ if entry.theirs else None,
        "difference": {
            name: difference(entry, dtype) if entry.theirs else None
            for name, dtype in precisions.items()
        },
        "lines": lines(entry),
        "parameters": {**parameters(entry), "published": entry.count, "source": entry.source},
        **cost(entry),
    }


def table(entries: Iterable[Entry], examples: str) -> dict[str, Any]:
    """The figures of a record: a row for each model, and what was run.

    Args:
        entries: the models.
        examples: what a batch has `BATCH` of, "images".
    """
    return {
        "transformers": transformers.__version__,
        "batch": BATCH,
        "examples": examples,
        "rows": [row(entry) for entry in entries],
    }
