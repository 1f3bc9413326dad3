#!/usr/bin/env python3
"""Create .venv with all that the course needs, or find that it is there already.

    python tools/setup_environment.py            what a learner needs
    python tools/setup_environment.py --serve    and what lesson 21's service needs
    python tools/setup_environment.py --test     and what `make test` and an author need
    python tools/setup_environment.py --site     and what `make site` needs

It uses the standard library only. PyTorch comes first: a PyTorch that is already in .venv and new
enough stays, so a GPU build that you installed there is never replaced. On Linux without an NVIDIA
GPU it takes PyTorch's CPU build, because PyPI's build brings gigabytes of CUDA libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "zoo-setup.json"
LOG = VENV / "zoo-setup.log"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST_PYTHON = (3, 11)
EXTRAS = {
    "serve": "lesson 21's service needs",
    "test": "the tests need",
    "site": "the website needs",
}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_TIMEOUT_S = 3
# Measured: 2 GB with the CPU build. The CUDA build adds its libraries, and pip unpacks a copy.
NEEDED_GB, NEEDED_GB_CUDA = 3, 10
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Max retries "
    r"exceeded|connection error|connection broken|Connection reset|Network is unreachable"
)
JUPYTER_NEWS = "@jupyterlab/apputils-extension:announcements"


class SetupError(Exception):
    """Something a newcomer can mend; the message is the one sentence to show."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Create .venv with all that the course needs.")
    parser.add_argument("--serve", action="store_true", help="add what lesson 21's service needs")
    parser.add_argument("--test", action="store_true", help="add all that make test needs")
    parser.add_argument("--site", action="store_true", help="add what make site needs")
    options = parser.parse_args(arguments)
    chosen = {"serve": options.serve or options.test or options.site}
    chosen |= {"test": options.test, "site": options.site}
    extras = [extra for extra in EXTRAS if chosen[extra]]
    try:
        set_up(extras)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def set_up(extras: Sequence[str] = ()) -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            "This course needs Python 3.11 or newer, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: install a newer one, and use it here."
        )
    wanted = fingerprints()
    done = read_stamp()
    if all(done.get(step) == wanted[step] for step in ("lessons", *extras)):
        return
    if not is_usable(PYTHON):
        check_disk(NEEDED_GB)
        create_venv()
    if done.get("lessons") != wanted["lessons"]:
        print("Installing the course's packages. The first time takes some minutes.", flush=True)
        install_lessons()
        write_stamp({"lessons": wanted["lessons"]})
    for extra in extras:
        if read_stamp().get(extra) != wanted[extra]:
            print(f"Installing what {EXTRAS[extra]}.", flush=True)
            pip_install("-r", f"requirements-{extra}.txt", "-c", "requirements.txt")
            write_stamp({**read_stamp(), extra: wanted[extra]})


# What is there, and what should be


def fingerprints() -> dict[str, str]:
    """A hash per step of everything that decides what it installs."""
    import tomllib  # not at the top: an old Python must get as far as its sentence

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    lessons = [(ROOT / "requirements.txt").read_text("utf8"), json.dumps(project), str(ROOT)]
    steps = {"lessons": lessons}
    for extra in EXTRAS:
        steps[extra] = [*lessons, (ROOT / f"requirements-{extra}.txt").read_text("utf8")]
    return {
        step: hashlib.sha256("\n".join(parts).encode()).hexdigest() for step, parts in steps.items()
    }


def read_stamp() -> dict[str, str]:
    if not (STAMP.exists() and PYTHON.exists()):
        return {}
    return json.loads(STAMP.read_text("utf8"))


def write_stamp(done: dict[str, str]) -> None:
    STAMP.write_text(json.dumps(done, indent=1) + "\n", "utf8")


def is_usable(python: Path) -> bool:
    """Does this environment start, with pip and a Python that is new enough?"""
    code = f"import sys, pip; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def check_disk(needed_gb: float) -> None:
    needed_gb = float(os.environ.get("ZOO_NEEDED_DISK_GB", needed_gb))
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < needed_gb:
        raise SetupError(
            f"The course needs {needed_gb:.0f} GB of free disk space to install, and this disk "
            f"has {free_gb:.1f} GB: make room, then type the same command again."
        )


def create_venv() -> None:
    try:
        import ensurepip
        import venv
    except ImportError:
        raise SetupError(
            f"This Python ({sys.executable}) has no venv module: install it (on Debian and Ubuntu "
            "with 'sudo apt install python3-venv'), then type the same command again."
        ) from None
    del ensurepip  # venv calls it in a process of its own
    print(f"Creating {VENV.name} with Python {sys.version.split()[0]}.", flush=True)
    venv.create(VENV, clear=True, with_pip=True)


# Installing


def install_lessons() -> None:
    torch = installed_torch()
    if torch is None:
        torch = install_torch()
    pins = (ROOT / "requirements.txt").read_text("utf8").splitlines()
    others = [pin for pin in pins if pin and not pin.startswith(("#", "torch=="))]
    pip_install(f"torch=={torch}", *others, "--editable", str(ROOT))
    disable_jupyter_news()


def installed_torch() -> str | None:
    """The version of the environment's torch if it satisfies pyproject's lower bound."""
    code = "from importlib.metadata import version; print(version('torch'))"
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    if found.returncode:
        return None
    version = found.stdout.strip()
    bound = re.search(r'"torch>=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text("utf8"))
    have = re.match(r"(\d+)\.(\d+)", version)
    if not bound or not have or _pair(have) < _pair(bound):
        return None
    return version


def _pair(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def install_torch() -> str:
    """Install the pinned torch; return the version that came, build tag included."""
    pin = re.search(r"^torch==\S+$", (ROOT / "requirements.txt").read_text("utf8"), re.MULTILINE)
    assert pin, "requirements.txt pins torch"
    if wants_cpu_index():
        try:
            pip_install(pin[0], "--index-url", CPU_INDEX)
        except SetupError:
            print("PyTorch's CPU index did not deliver; trying the usual one.", flush=True)
            pip_install(pin[0])
    else:
        if sys.platform == "linux" and not has_own_package_source():
            check_disk(NEEDED_GB_CUDA)
        pip_install(pin[0])
    version = installed_torch()
    assert version, "pip said that it installed torch"
    return version


def wants_cpu_index() -> bool:
    """Only where PyPI would bring CUDA for nothing, nobody chose an index, and ours answers."""
    if sys.platform != "linux" or has_nvidia_gpu() or has_own_package_source():
        return False
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=PROBE_TIMEOUT_S) as answer:
            return answer.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def has_nvidia_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia").exists()


def has_own_package_source() -> bool:
    """Did the user tell pip where packages come from? Then that is where PyTorch comes from."""
    settings = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True)
    return bool(re.search(rb"\.(index-url|extra-index-url|find-links|no-index)=", settings.stdout))


def pip_install(*arguments: str) -> None:
    """Install into .venv. Raises SetupError as `run_pip` does."""
    run_pip("install", *arguments)


def run_pip(action: str, *arguments: str, log: Path = LOG) -> None:
    """Run one of pip's commands; say in a sentence what went wrong, if the reason is a usual one.

    Args:
        log: file for pip's details; it stays if pip fails.

    Raises:
        SetupError: pip failed.
    """
    command = [str(PYTHON), "-m", "pip", action, "--disable-pip-version-check"]
    command += ["--log", str(log), *arguments]
    log.unlink(missing_ok=True)  # pip appends, and an old failure would be taken for a new one
    if not sys.stdout.isatty():
        command += ["--quiet", "--progress-bar", "off"]  # both help only a person
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        text = log.read_text("utf8", errors="replace") if log.exists() else ""
        raise SetupError(pip_failure(done.stderr, text, log))
    log.unlink(missing_ok=True)  # tens of megabytes that nobody needs now


def pip_failure(stderr: str, log: str, file: Path = LOG) -> str:
    """The one sentence that pip's error messages come down to.

    Only the log tells for sure that the network was the reason: with few retries, stderr ends on
    "No matching distribution found".
    """
    if re.search(r"no space left|disk quota", stderr, re.IGNORECASE):
        return (
            "The disk filled up while installing: make room, then type the same command again; "
            "what is already there is kept."
        )
    if NO_NETWORK.search(stderr) or NO_NETWORK.search(log):
        return (
            "The packages could not be downloaded because the package index cannot be reached: "
            "check the network, then type the same command again. Once installed, the course "
            "works offline."
        )
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: none"]
    shown = errors[-1].removeprefix("ERROR: ")
    place = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return f"pip could not install the packages ({shown}); {place} has the details."


def disable_jupyter_news() -> None:
    """Keep JupyterLab in .venv from asking about news: a question, and a request outside."""
    config = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"disabledExtensions": {JUPYTER_NEWS: True}}) + "\n", "utf8")


if __name__ == "__main__":
    raise SystemExit(main())
