"""Environments that see what the tests' own environment has, except the course and some packages.

Nothing is copied: a folder of links stands behind the new environment's own site-packages. pip
takes what lies there for installed, but never removes or overwrites it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

COURSE = "zoo-lessons"


def bare_environment(folder: Path, without: Iterable[str] = ()) -> Path:
    """Make an environment that lacks the course and `without`; return its Python.

    Args:
        folder: where to make it.
        without: names of packages that it shall not see.
    """
    venv.create(folder, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    linked = folder / "linked"
    linked.mkdir()
    own = Path(sysconfig.get_path("purelib"))
    hidden = files_of({canonicalize_name(name) for name in (COURSE, *without)})
    for path in own.iterdir():
        if path.name in hidden or path.name == "__pycache__" or path.suffix == ".pth":
            continue
        (linked / path.name).symlink_to(path)
    (site / "linked.pth").write_text(f"{linked}\n")
    python = folder / "bin" / "python"
    for name in ("pip", "pip3"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{python}" -m pip "$@"\n')
        script.chmod(0o755)
    return python


def files_of(names: set[str]) -> set[str]:
    """First parts of the paths, below site-packages, of all files of these packages."""
    found = set()
    for distribution in metadata.distributions():
        if canonicalize_name(distribution.name) in names:
            found |= {file.parts[0] for file in distribution.files or ()}
    return found


def offline_pip(wheels: Path) -> dict[str, str]:
    """Variables with which pip finds wheels in this folder only, whatever the user has set."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def environment_variables(python: Path, **further: str) -> dict[str, str]:
    """This process's variables, with the new environment's programs first and no pip settings."""
    drop = ("PIP_", "PYTHON", "JUPYTER", "ZOO_", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    return {**kept, "PATH": f"{python.parent}{os.pathsep}{kept.get('PATH', '')}", **further}
