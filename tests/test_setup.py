"""What a newcomer meets when something is missing: one clear sentence, by running the real thing.

Each run works on a copy of the set-up files in a temporary folder and installs nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import setup_environment

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt")))
INSTALLED = setup_environment.PYTHON.relative_to(ROOT)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="make and sh are Unix tools")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `make lab` needs, without an environment."""
    folder = tmp_path / "a course"  # a space in the path is a newcomer's favourite
    folder.mkdir()
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    return folder


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A PATH with the few programs that make and sh need, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "make"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said about the failure; make adds a line of its own."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return lines


def set_up(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "tools/setup_environment.py"], folder, **environment)


def test_python_too_old(checkout: Path, bin_folder: Path) -> None:
    program(bin_folder, "python3", 'test "$1" = --version && echo Python 3.8.18 && exit; exit 1')
    (sentence,) = sentences(run(["make", "lab"], checkout, PATH=str(bin_folder), PYTHON=""))
    assert "needs Python 3.11 or newer, and found only Python 3.8.18" in sentence


def test_no_python_at_all(checkout: Path, bin_folder: Path) -> None:
    (sentence,) = sentences(run(["make", "lab"], checkout, PATH=str(bin_folder), PYTHON=""))
    assert "needs Python 3.11 or newer, and found only no python3" in sentence


def test_the_first_suitable_python_is_chosen(bin_folder: Path) -> None:
    program(bin_folder, "python3", "exit 1")
    program(bin_folder, "python3.13", "exit 1")
    program(bin_folder, "python3.12", f'exec "{sys.executable}" "$@"')
    choose = ["sh", str(ROOT / "tools" / "python.sh")]
    done = run(choose, ROOT, PATH=str(bin_folder), PYTHON="")
    assert done.stdout == "python3.12\n", done.stderr
    named = program(bin_folder, "my python", f'exec "{sys.executable}" "$@"')
    assert run(choose, ROOT, PATH=str(bin_folder), PYTHON=str(named)).stdout == f"{named}\n"


def test_old_python_running_the_script_itself(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """On Windows nothing chooses a Python first."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert setup_environment.main([]) == 1
    assert "needs Python 3.11 or newer, and this is Python 3.9" in capsys.readouterr().err


def test_no_disk(checkout: Path) -> None:
    (sentence,) = sentences(set_up(checkout, ZOO_NEEDED_DISK_GB="1000000"))
    assert sentence.startswith("The course needs 1000000 GB of free disk space to install")
    assert not (checkout / ".venv").exists()


def test_no_venv_module(checkout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ensurepip.py").write_text("raise ImportError('Debian keeps it elsewhere')")
    (sentence,) = sentences(set_up(checkout, PYTHONPATH=str(broken), ZOO_NEEDED_DISK_GB="0"))
    assert "has no venv module" in sentence and "python3-venv" in sentence


def test_no_network_while_installing_then_the_same_command_goes_on(checkout: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{unused.getsockname()[1]}/simple"
        settings = {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        settings["ZOO_NEEDED_DISK_GB"] = "0"
        (sentence,) = sentences(set_up(checkout, **settings))
        assert sentence.startswith("The packages could not be downloaded")
        assert not (checkout / ".venv" / "zoo-setup.json").exists()
        again = set_up(checkout, **settings)
    assert "Creating .venv" not in again.stdout and "Installing" in again.stdout


def test_an_environment_that_is_ready_is_left_alone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_environment, "ROOT", checkout)
    wanted = setup_environment.fingerprints()
    python = checkout / INSTALLED
    python.parent.mkdir(parents=True)
    program(python.parent, python.name, "echo must not run; exit 1")
    (checkout / ".venv" / "zoo-setup.json").write_text(json.dumps({"lessons": wanted["lessons"]}))
    done = set_up(checkout, ZOO_NEEDED_DISK_GB="1000000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    with (checkout / "requirements.txt").open("a") as file:
        file.write("colorama==0.4.6\n")
    assert "free disk space" in sentences(set_up(checkout, ZOO_NEEDED_DISK_GB="1000000"))[0]


@pytest.mark.parametrize(
    ("stderr", "log", "sentence"),
    [
        ("ERROR: [Errno 28] No space left on device", "", "The disk filled up"),
        (
            "WARNING: Retrying after connection broken by NewConnectionError",
            "",
            "check the network",
        ),
        ("ERROR: ReadTimeoutError: Read timed out.", "", "check the network"),
        ("ERROR: No matching distribution", "Skipping, connection error", "check the network"),
        ("WARNING: x\nERROR: No matching distribution found", "networkx", "(No matching distr"),
    ],
)
def test_pip_failures_become_one_sentence(stderr: str, log: str, sentence: str) -> None:
    message = setup_environment.pip_failure(stderr, log)
    assert sentence in message and "\n" not in message


class FakePip:
    """Stands in for pip: remembers what was asked for, and fails where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, torch: str | None, fail: str = "") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.torch, self.fail = torch, fail
        monkeypatch.setattr(setup_environment, "pip_install", self.install)
        monkeypatch.setattr(setup_environment, "installed_torch", lambda: self.torch)
        monkeypatch.setattr(setup_environment, "disable_jupyter_news", lambda: None)
        monkeypatch.setattr(setup_environment, "check_disk", lambda needed: None)

    def install(self, *arguments: str) -> None:
        self.calls.append(arguments)
        if self.fail and self.fail in arguments:
            raise setup_environment.SetupError("unreachable")
        self.torch = self.torch or "2.13.0+cpu"


def test_a_torch_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = FakePip(monkeypatch, torch="2.7.1+cu126")
    setup_environment.install_lessons()
    (call,) = pip.calls
    assert call[0] == "torch==2.7.1+cu126" and "torch==2.13.0" not in call
    assert "transformers==5.23.0" in call and call[-2:] == ("--editable", str(ROOT))


@pytest.mark.parametrize("reachable", [True, False])
def test_torch_comes_first(monkeypatch: pytest.MonkeyPatch, reachable: bool) -> None:
    pip = FakePip(monkeypatch, torch=None)
    monkeypatch.setattr(setup_environment, "wants_cpu_index", lambda: reachable)
    setup_environment.install_lessons()
    index = ("--index-url", setup_environment.CPU_INDEX) if reachable else ()
    assert pip.calls[0] == ("torch==2.13.0", *index)
    assert pip.calls[1][0] == "torch==2.13.0+cpu"


def test_a_failing_cpu_index_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = FakePip(monkeypatch, torch=None, fail=setup_environment.CPU_INDEX)
    monkeypatch.setattr(setup_environment, "wants_cpu_index", lambda: True)
    assert setup_environment.install_torch() == "2.13.0+cpu"
    assert pip.calls[1] == ("torch==2.13.0",)


@pytest.mark.parametrize(
    ("platform", "gpu", "own_source", "asks"),
    [
        ("linux", False, False, True),
        ("linux", True, False, False),
        ("linux", False, True, False),
        ("darwin", False, False, False),
        ("win32", False, False, False),
    ],
)
def test_the_cpu_index_is_asked_only_where_it_helps(
    monkeypatch: pytest.MonkeyPatch, platform: str, gpu: bool, own_source: bool, asks: bool
) -> None:
    asked: list[str] = []

    def no_answer(url: str, timeout: float) -> None:
        asked.append(url)
        raise TimeoutError

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(setup_environment, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(setup_environment, "has_own_package_source", lambda: own_source)
    monkeypatch.setattr(setup_environment.urllib.request, "urlopen", no_answer)
    assert setup_environment.wants_cpu_index() is False  # no answer: the usual index it is
    assert bool(asked) is asks


def test_a_wanted_port_in_use_is_an_error(busy_port: int) -> None:
    start = [sys.executable, "tools/start_lab.py", "--no-browser"]
    for flag in (["--port", str(busy_port)], [f"--port={busy_port}"]):
        (sentence,) = sentences(run([*start, *flag], ROOT))
        assert sentence.startswith(f"Port {busy_port} is in use: choose another one")


def test_the_usual_port_in_use_moves_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, busy_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools import start_lab

    monkeypatch.setattr(start_lab, "USUAL_PORT", busy_port)
    monkeypatch.setattr(start_lab, "LAST_PORT", busy_port + 50)
    chosen = start_lab.choose_port("127.0.0.1", None)
    assert busy_port < chosen < busy_port + 50
    assert (
        f"Port {busy_port} is in use, so this JupyterLab uses {chosen}." in capsys.readouterr().out
    )
