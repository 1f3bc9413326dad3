"""The unit tests on every Python of this machine, each in a clone with an environment of its own.

Clones and environments lie in `build/robust/pythons/`: gigabytes, kept for the next time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.notebooks import ROOT
from tools.setup_environment import OLDEST_PYTHON

PYTHONS = ROOT / "build" / "robust" / "pythons"
NEWEST_MINOR = 20  # of the Python 3.x that are looked for
# Browser tests are about JavaScript. Notebooks are executed by `make test`.
TESTS = ["tests", "--ignore=tests/browser"]
DESCRIBE = """
import json, platform, sys
print(json.dumps([sys.version_info[:3], platform.python_compiler()]))
"""
TORCH = "import torch; print(torch.__version__)"


def find(wanted: Sequence[str] = ()) -> dict[str, str]:
    """Every build of a Python that is new enough: "3.12.1 (GCC 12.2.0)" -> its path.

    Args:
        wanted: versions ("3.12") or paths; by default all on PATH and among pyenv's versions.

    Raises:
        ValueError: one of `wanted` is not here, or too old.
    """
    names = ["python3", *(f"python3.{n}" for n in range(OLDEST_PYTHON[1], NEWEST_MINOR))]
    folders = os.environ.get("PATH", "").split(os.pathsep)
    places = [str(Path(folder) / name) for folder in folders for name in names]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places += [str(path) for path in sorted(pyenv.glob("versions/*/bin/python3"))]
    here: dict[str, str] = {}
    for path in places:
        if description := describe(path):
            here.setdefault(description, path)
    if not wanted:
        return here
    chosen = {}
    for name in wanted:
        if "/" in name:
            description = describe(name)
            fitting = {description: name} if description else {}
        else:
            fitting = {key: path for key, path in here.items() if fits(name, key)}
        if not fitting:
            raise ValueError(f"no Python {name} of at least {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}")
        chosen |= fitting
    return chosen


def fits(version: str, description: str) -> bool:
    """Does "3.12" name "3.12.1 (GCC 12.2.0)"?"""
    return re.match(rf"{re.escape(version)}[. ]", description) is not None


def describe(path: str) -> str | None:
    """Version and compiler of an interpreter; None where it does not start or is too old."""
    try:
        done = subprocess.run([path, "-c", DESCRIBE], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    if done.returncode:
        return None
    version, compiler = json.loads(done.stdout)
    if tuple(version[:2]) < OLDEST_PYTHON:
        return None
    return f"{'.'.join(map(str, version))} ({compiler})"


def run(pythons: dict[str, str], at_once: int) -> None:
    """Test the last commit on each, unless that has been done."""
    commit = git(ROOT, "rev-parse", "HEAD")
    for name, path in pythons.items():
        folder = PYTHONS / re.sub(r"\W+", "-", name).strip("-")
        if (done := result(folder)) and done["commit"] == commit:
            continue
        print(f"Python {name}: setting up", flush=True)
        try:
            python = prepare(folder, path, commit)
        except subprocess.CalledProcessError as error:
            print(f"Python {name}: {error}", file=sys.stderr, flush=True)
            continue
        print(f"Python {name}: testing", flush=True)
        outcome = test(folder, python, at_once)
        version, compiler = name.rstrip(")").split(" (", 1)
        outcome = {"python": version, "compiler": compiler, "commit": commit, **outcome}
        (folder / "result.json").write_text(json.dumps(outcome, indent=1) + "\n", "utf8")
        failures = len(outcome["failures"])
        print(f"Python {name}: {outcome['passed']} passed, {failures} failed", flush=True)


def prepare(folder: Path, path: str, commit: str) -> Path:
    """A clone at this commit with an environment; returns the environment's Python."""
    clone = folder / "course"
    if not (clone / ".git").exists():
        shutil.rmtree(clone, ignore_errors=True)
        clone.parent.mkdir(parents=True, exist_ok=True)
        git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    git(clone, "fetch", "--quiet", "origin", commit)
    git(clone, "checkout", "--quiet", "--force", commit)
    subprocess.run([path, "tools/setup_environment.py", "--test"], cwd=clone, check=True)
    return clone / ".venv" / "bin" / "python"


def test(folder: Path, python: Path, at_once: int) -> dict[str, Any]:
    """Run the unit tests; what came out, JSON-able."""
    clone, report = folder / "course", folder / "report.xml"
    report.unlink(missing_ok=True)
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-n", str(at_once), "--dist", "loadfile"]
    arguments += [f"--junitxml={report}", *TESTS]
    started = time.perf_counter()
    with (folder / "pytest.log").open("w") as log:
        subprocess.run([python, *arguments], cwd=clone, stdout=log, stderr=subprocess.STDOUT)
    seconds = time.perf_counter() - started
    torch = subprocess.run([python, "-c", TORCH], capture_output=True, text=True, check=True)
    return {**read_report(report), "torch": torch.stdout.strip(), "seconds": round(seconds, 1)}


def read_report(report: Path) -> dict[str, Any]:
    """Counts and failures from pytest's JUnit file."""
    outcome: dict[str, Any] = {"passed": 0, "skipped": 0, "failures": []}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome["failures"].append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            outcome["skipped"] += 1
        else:
            outcome["passed"] += 1
    return outcome


def result(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    return json.loads(path.read_text("utf8")) if path.exists() else None


def results() -> list[dict[str, Any]]:
    """Every outcome that is kept, oldest Python first."""
    found = [result(path.parent) for path in PYTHONS.glob("*/result.json")]
    return sorted(
        (outcome for outcome in found if outcome),
        key=lambda outcome: [*map(int, outcome["python"].split(".")), outcome["compiler"]],
    )


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()
