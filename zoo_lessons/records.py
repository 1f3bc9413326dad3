"""Recorded results: measurements that are too long for a lesson, kept with what made them.

A function in `experiments/` measures something. `make record` runs it and writes

- `data/records/NAME.json`: its figures, with device, date, command, versions, hash of the code;
- `data/records/claims/Cxx.json`: for each claim that it settles, the verdict.

A lesson reads these with `load_record` and `load_claim`. Nobody edits them by hand. When the code
that an experiment names changes, the hash no longer matches: the record is stale, and a test says
so. Modules that it imports and does not name are not watched.

    python -m zoo_lessons.records                 run every experiment
    python -m zoo_lessons.records NAME ...        run these
    python -m zoo_lessons.records --stale         run those whose record is missing or stale
    python -m zoo_lessons.records --list          say what there is
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo_lessons.bench import describe_machine
from zoo_lessons.claims import CLAIMS
from zoo_lessons.paths import data_dir, repository_root

VERDICTS = ("reproduced", "partly", "not measurable here", "the article is wrong")


@dataclass(frozen=True)
class Verdict:
    """What a measurement says about a claim.

    Attributes:
        verdict: one of `VERDICTS`.
        ours: our figure, as the report card prints it.
        explanation: why the verdict is what it is, in one to three sentences.
        cell: where it is shown: lesson and heading, "04#What-it-costs".

    Raises:
        ValueError: another verdict, or a cell of another form.
    """

    verdict: str
    ours: str
    explanation: str
    cell: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r} must be one of {', '.join(VERDICTS)}")
        if not re.fullmatch(r"\d\d#\S+", self.cell):
            raise ValueError(f"cell {self.cell!r} must be lesson#heading, as in '04#What-it-costs'")


@dataclass(frozen=True)
class Experiment:
    """A recorded measurement; made by the decorator `experiment`.

    Attributes:
        name: of the record, `data/records/NAME.json`.
        claims: ids of the claims that it settles. Each claim is settled by one experiment, which
            may read the records of others.
        lesson: number of the lesson that shows it.
        modules: names of the modules whose code made the result: its own and those it `uses`.
        function: returns `{"figures": ..., "verdicts": {claim id: Verdict(...)}}`; the figures are
            JSON-able, and there is a verdict for each of `claims`.
    """

    name: str
    claims: tuple[str, ...]
    lesson: str
    modules: tuple[str, ...]
    function: Callable[[], dict[str, Any]]

    def __call__(self) -> dict[str, Any]:
        return self.function()


def experiment(
    name: str, *, claims: Sequence[str] = (), lesson: str, uses: Sequence[str] = ()
) -> Callable[[Callable[[], dict[str, Any]]], Experiment]:
    """Make a function a recorded experiment.

    Args:
        name: of the record; lower case, digits and underscores.
        claims: ids of the claims that it settles.
        lesson: number of the lesson that shows it, "04".
        uses: names of the modules that the result depends on, "zoo_lessons.bench". A change in one
            of them makes the record stale.

    Raises:
        ValueError: a name that cannot be a file's, or an unknown claim.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"experiment name {name!r} must be lower case, digits and underscores")
    unknown = [claim for claim in claims if claim not in CLAIMS]
    if unknown:
        raise ValueError(
            f"experiment {name!r} names unknown claims {unknown}; see zoo_lessons.claims"
        )

    def decorate(function: Callable[[], dict[str, Any]]) -> Experiment:
        modules = (function.__module__, *uses)
        return Experiment(name, tuple(claims), lesson, modules, function)

    return decorate


# --- reading -----------------------------------------------------------------------------------


def load_record(name: str) -> dict[str, Any]:
    """The record of an experiment; its measurements are under "figures".

    Raises:
        FileNotFoundError: it has not been recorded; the message names the command that does it.
    """
    return _read(_record_path(name), f"no record {name!r}", name)


def load_claim(claim_id: str) -> dict[str, Any]:
    """The verdict on a claim: claim, says, ours, verdict, explanation, cell, and how it was made.

    Raises:
        ValueError: there is no such claim.
        FileNotFoundError: it has not been recorded; the message names the command that does it.
    """
    if claim_id not in CLAIMS:
        raise ValueError(f"unknown claim {claim_id!r}: expected one of C01 to {max(CLAIMS)}")
    path, makers = _claim_path(claim_id), []
    if not path.exists():  # only then: it imports every experiment, 150 MB and some seconds
        makers = [each.name for each in experiments().values() if claim_id in each.claims]
    return _read(path, f"no record of claim {claim_id}", *makers)


def is_stale(name: str) -> bool:
    """Whether the code behind a record has changed since it was made, or is gone.

    Raises:
        FileNotFoundError: there is no such record.
    """
    record = load_record(name)
    maker = experiments().get(name)
    return maker is None or record["code"] != code_hash(maker.modules)


# --- the code behind a record ------------------------------------------------------------------


def experiments() -> dict[str, Experiment]:
    """Every experiment of the repository's `experiments/` folder, by name.

    Raises:
        ValueError: two experiments share a name or settle the same claim.
    """
    found: dict[str, Experiment] = {}
    owners: dict[str, str] = {}
    for module in _experiment_modules():
        for value in vars(module).values():
            if not isinstance(value, Experiment) or value.modules[0] != module.__name__:
                continue
            if value.name in found:
                raise ValueError(f"two experiments are called {value.name!r}")
            found[value.name] = value
            for claim in value.claims:
                if claim in owners:
                    raise ValueError(f"{owners[claim]!r} and {value.name!r} both settle {claim}")
                owners[claim] = value.name
    return found


def code_hash(modules: Sequence[str]) -> str:
    """sha256 over what the modules' code does when it is imported.

    Comments, layout, docstrings and what a module only does as a program do not count.
    """
    digest = hashlib.sha256()
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no source of module {name!r}, which a record depends on")
        digest.update(name.encode())
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for token in _meaning(tree):
            digest.update(token.encode() + b"\n")
    return digest.hexdigest()


def _meaning(node: Any) -> Iterator[str]:
    """The syntax tree as text, without docstrings and the main program.

    Not `ast.dump`: what it prints for absent fields differs between versions of Python.
    """
    if isinstance(node, ast.AST):
        yield type(node).__name__
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, documented) and ast.get_docstring(node):
                value = value[1:]
            if field == "body" and isinstance(node, ast.Module):
                value = [each for each in value if not _is_program(each)]
            if isinstance(node, ast.JoinedStr):  # Python 3.12.0 and 3.12.1 add empty parts
                value = [each for each in value if getattr(each, "value", None) != ""]
            if value is not None and value != []:
                yield f".{field}"
                yield from _meaning(value)
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _meaning(item)
        yield "]"
    else:
        yield repr(node)


def _is_program(node: ast.stmt) -> bool:
    """Whether this is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _experiment_modules() -> Iterator[Any]:
    root = str(repository_root())
    if root not in sys.path:  # the folder is no part of the installed package
        sys.path.append(root)
    package = importlib.import_module("experiments")
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        yield importlib.import_module(f"experiments.{info.name}")


# --- writing -----------------------------------------------------------------------------------


def record(maker: Experiment) -> None:
    """Run an experiment and write its record and its claims.

    Raises:
        ValueError: the result has no figures, is not JSON-able, or its verdicts are not on exactly
            the claims that it settles.
    """
    code = code_hash(maker.modules)  # before the run: what changes meanwhile makes it stale
    started = time.perf_counter()
    result = maker()
    seconds = time.perf_counter() - started
    _check_result(maker, result)
    made = {
        "experiment": maker.name,
        "lesson": maker.lesson,
        "command": _command(maker.name),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "machine": describe_machine(),
        "code": code,
        "modules": list(maker.modules),
    }
    _write(_record_path(maker.name), {**made, "figures": result["figures"]})
    for claim_id in maker.claims:
        claim = {"claim": claim_id, "says": CLAIMS[claim_id].text}
        _write(_claim_path(claim_id), {**claim, **asdict(result["verdicts"][claim_id]), **made})


def _check_result(maker: Experiment, result: Mapping[str, Any]) -> None:
    if not isinstance(result, Mapping) or not result.get("figures"):
        raise ValueError(f"experiment {maker.name!r} must return a dict with 'figures'")
    verdicts = result.get("verdicts", {})
    if set(verdicts) != set(maker.claims):
        raise ValueError(
            f"experiment {maker.name!r} returned verdicts on {sorted(verdicts)}, "
            f"but settles {sorted(maker.claims)}"
        )


def _record_path(name: str) -> Path:
    return data_dir() / "records" / f"{name}.json"


def _claim_path(claim_id: str) -> Path:
    return data_dir() / "records" / "claims" / f"{claim_id}.json"


def _command(*names: str) -> str:
    return f'make record ARGS="{" ".join(names)}"' if names else "make record"


def _read(path: Path, problem: str, *names: str) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{problem} in {path.parent}: run `{_command(*names)}` to make it")
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


# --- the command -------------------------------------------------------------------------------


def state(name: str) -> str:
    """ "missing", "stale" or "fresh"."""
    if not _record_path(name).exists():
        return "missing"
    return "stale" if is_stale(name) else "fresh"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `python -m zoo_lessons.records`."""
    parser = argparse.ArgumentParser(prog="make record", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="experiments to run; by default all")
    parser.add_argument("--list", action="store_true", help="list them and run nothing")
    parser.add_argument("--stale", action="store_true", help="only those missing or stale")
    options = parser.parse_args(arguments)
    known = experiments()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"unknown experiments {unknown}; there are {', '.join(known)}")
    chosen = options.names or list(known)
    if options.stale:
        chosen = [name for name in chosen if state(name) != "fresh"]
    if options.list:
        for name in chosen:
            maker = known[name]
            print(f"{state(name):8} lesson {maker.lesson}  {name}  {' '.join(maker.claims)}")
        return
    for name in chosen:
        print(f"{name} ...", end=" ", flush=True)
        record(known[name])
        print(f"{load_record(name)['seconds']} s")


if __name__ == "__main__":
    # Experiments import this module by its name. Run its `main`, so that there is one `Experiment`.
    importlib.import_module("zoo_lessons.records").main()
