"""A rehearsal of Binder: what repo2docker would read, and `postBuild` run in a bare environment.

repo2docker 2026.4 with `--no-build` says the same of this repository: conda, Python 3.12,
environment.yml, postBuild. What this cannot show: which versions conda-forge gives on a given day.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.reach.bare import bare_environment, environment_variables, offline_pip
from tests.test_project import CONDA

ROOT = Path(__file__).resolve().parents[2]
POST_BUILD = ROOT / "postBuild"

# In a folder `binder` or `.binder`, repo2docker would look for all its files and for none outside.
# The others beside environment.yml would win over it, or start another kind of image.
SHADOWS = ("binder", ".binder", "Dockerfile", "environment.yaml", "install.R", "DESCRIPTION")
SHADOWS += ("Project.toml", "REQUIRE", "default.nix", "runtime.txt", "Pipfile", "Pipfile.lock")


def pip_section() -> list[Requirement]:
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    return [Requirement(line) for line in pip]


@pytest.mark.parametrize("name", SHADOWS)
def test_nothing_stands_before_environment_yml(name: str) -> None:
    assert not (ROOT / name).exists(), f"repo2docker would read {name} instead"


def test_the_pip_section_comes_last_and_needs_nothing_that_conda_lacks() -> None:
    """Else pip would fetch a second copy of a package that conda-forge has, PyTorch for one."""
    assert isinstance(CONDA["dependencies"][-1], dict), "pip runs after conda"
    assert "pip" in CONDA["dependencies"], "conda warns when its environment has no pip of its own"
    conda = {Requirement(e).name for e in CONDA["dependencies"][2:] if isinstance(e, str)}
    big = {"torch": "pytorch-cpu", "sentence-transformers": "sentence-transformers"}
    big |= {name: name for name in ("transformers", "numpy", "scipy", "scikit-learn", "onnx")}
    for package in pip_section():
        needs = [Requirement(line) for line in metadata.requires(package.name) or ()]
        needed = {need.name for need in needs if not need.marker or need.marker.evaluate()}
        for name, conda_name in big.items():
            assert name not in needed or conda_name in conda, f"{package.name} would bring {name}"


def test_the_pip_section_is_what_is_tested_here() -> None:
    for package in pip_section():
        assert package.specifier.contains(metadata.version(package.name)), str(package)


def test_post_build_is_a_program() -> None:
    assert os.access(POST_BUILD, os.X_OK)
    assert POST_BUILD.read_bytes().startswith(b"#!/bin/bash\n")
    mode = subprocess.run(
        ["git", "ls-files", "--stage", "postBuild"], cwd=ROOT, capture_output=True, text=True
    )
    assert mode.returncode or mode.stdout.startswith("100755"), "git would check it out otherwise"


def test_post_build_installs_the_course(tmp_path: Path, wheels: Path) -> None:
    repository, home = tmp_path / "repository", tmp_path / "home"
    for name in ("pyproject.toml", "README.md", "LICENSE", "postBuild"):
        repository.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, repository)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "zoo_lessons", repository / "zoo_lessons", ignore=ignored)
    (repository / "data").mkdir()
    home.mkdir()
    python = bare_environment(tmp_path / "environment")
    variables = environment_variables(python, **offline_pip(wheels), HOME=str(home))
    done = subprocess.run(
        ["./postBuild"], cwd=repository, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import zoo_lessons; print(zoo_lessons.__file__)"
    found = subprocess.check_output([python, "-c", code], cwd=home, env=variables, text=True)
    assert Path(found.strip()).is_relative_to(repository), "the environment has another course"
    compiled = list((repository / "zoo_lessons").rglob("*.pyc"))
    assert compiled, "postBuild should compile what a learner would wait for"


def test_a_failing_post_build_stops_the_image(tmp_path: Path, wheels: Path) -> None:
    """A repository without its package: Binder must say so, not start without the course."""
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(POST_BUILD, repository)
    python = bare_environment(tmp_path / "environment")
    variables = environment_variables(python, **offline_pip(wheels), HOME=str(tmp_path))
    done = subprocess.run(["./postBuild"], cwd=repository, env=variables, capture_output=True)
    assert done.returncode != 0
