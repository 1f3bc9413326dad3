"""requirements.txt, environment.yml and pyproject.toml say the same."""

from __future__ import annotations

import ast
import re
import stat
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch-cpu"}
# What the lessons run in, but the package itself does not import: Colab brings its own.
NOTEBOOK_SERVER = {"ipykernel", "jupyterlab", "jupytext"}

# Looked for on computers that have an NVIDIA GPU; triton comes with PyTorch there.
ONLY_WHERE_THERE = {"pynvml", "torch-tensorrt", "triton"}


def by_name(lines: list[str]) -> dict[str, Requirement]:
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text("utf8").splitlines()
    return by_name([line for line in lines if line and not line.startswith("#")])


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
PACKAGE = by_name(PROJECT["dependencies"])
TEST_EXTRA = by_name(PROJECT["optional-dependencies"]["test"])
SERVE_EXTRA = by_name(PROJECT["optional-dependencies"]["serve"])
SITE_EXTRA = by_name(PROJECT["optional-dependencies"]["site"])
LESSON_PINS = pins("requirements.txt")
TEST_PINS = pins("requirements-test.txt")
SERVE_PINS = pins("requirements-serve.txt")
SITE_PINS = pins("requirements-site.txt")
BOUNDS = {**TEST_EXTRA, **SERVE_EXTRA, **SITE_EXTRA, **PACKAGE}
PINS = {**LESSON_PINS, **SERVE_PINS, **SITE_PINS, **TEST_PINS}
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text("utf8"))


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "*" not in specifier.version, f"{requirement}: no pin"
    return specifier.version


def conda_requirements() -> dict[str, Requirement]:
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    conda = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    # conda writes `name=3.12` where pip writes `name==3.12.*`; ranges look the same.
    return by_name([re.sub(r"^(\w+)=(\d[\d.]*)$", r"\1==\2.*", entry) for entry in conda] + pip)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_pyproject_has_lower_bounds_only(name: str) -> None:
    requirement = BOUNDS[name]
    assert [specifier.operator for specifier in requirement.specifier] == [">="], str(requirement)


def test_requirements_pin_what_the_package_and_the_notebook_server_need() -> None:
    assert set(LESSON_PINS) == set(PACKAGE) | NOTEBOOK_SERVER
    assert set(TEST_PINS) == set(TEST_EXTRA) - NOTEBOOK_SERVER
    assert set(SERVE_PINS) == set(SERVE_EXTRA)
    assert set(SITE_PINS) == set(SITE_EXTRA)


def imported(folder: Path) -> set[str]:
    """Top-level names that the Python files below a folder import, but not for type hints only."""
    names = set()
    for path in folder.rglob("*.py"):
        nodes: list[ast.AST] = [ast.parse(path.read_text("utf8"))]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            nodes += ast.iter_child_nodes(node)
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.split(".")[0] for name in names}


def test_what_the_library_imports_is_declared() -> None:
    """And not merely there because something else asked for it."""
    others = imported(ROOT / "zoo_lessons") - sys.stdlib_module_names - {"zoo_lessons"}
    known = packages_distributions()
    distributions = {
        canonicalize_name(name) for other in others for name in known.get(other, [other])
    }
    assert distributions - set(PACKAGE) - set(SERVE_EXTRA) - ONLY_WHERE_THERE == set()


@pytest.mark.parametrize("name", sorted(PINS))
def test_pins_satisfy_pyproject(name: str) -> None:
    version = pinned_version(PINS[name])
    bound = BOUNDS.get(name)
    assert bound is None or bound.specifier.contains(version), f"{bound} excludes {version}"
    assert bound is None or bound.marker == PINS[name].marker, f"{bound} is for other systems"


def test_torch_pin() -> None:
    assert pinned_version(LESSON_PINS["torch"]) == "2.13.0"


@pytest.mark.parametrize("name", sorted(LESSON_PINS))
def test_environment_has_every_pin_in_a_compatible_version(name: str) -> None:
    conda = conda_requirements()
    entry = conda.get(CONDA_NAMES.get(name, name))
    assert entry is not None, f"environment.yml lacks {name}"
    version = pinned_version(LESSON_PINS[name])
    assert entry.specifier.contains(version), f"{entry} excludes {version}"
    if name in PACKAGE:  # what environment.yml allows, pyproject allows too
        lowest = [spec.version for spec in entry.specifier if spec.operator in (">=", "==")]
        assert PACKAGE[name].specifier.contains(lowest[0]), f"{PACKAGE[name]} is above {entry}"


def test_environment_is_conda_forge_with_a_python_that_the_package_allows() -> None:
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    python = conda_requirements()["python"]
    assert str(python.specifier) == "==3.12.*"
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("name", ["postBuild", ".ci/run", "tools/python.sh"])
def test_scripts_are_executable(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR, f"{name} is not executable"


def test_citation_says_what_pyproject_says() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["repository"]
    (title,) = re.findall("^# (.+)$", (ROOT / "README.md").read_text("utf8"), re.MULTILINE)[:1]
    assert citation["title"].startswith(f"{title}: ")
