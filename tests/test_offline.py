"""`make test` runs where the only network is loopback; this proves it from inside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import offline

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("192.0.2.1", 80)  # an address that RFC 5737 keeps free for documentation


def test_nothing_outside_can_be_reached() -> None:
    if os.environ.get("ZOO_OFFLINE") != "1":
        if os.environ.get("CI") == "true":
            pytest.fail("CI must run the tests through tools/offline.py")
        pytest.skip("only make test takes the network away")
    with pytest.raises(OSError, match="Network is unreachable"):
        socket.create_connection(OUTSIDE, timeout=5)
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.org", 80)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            client.sendall(b"zoo")
            connection, _ = server.accept()
            with connection:
                assert connection.recv(3) == b"zoo"


def run_offline(
    command: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    tool = [sys.executable, str(ROOT / "tools" / "offline.py")]
    return subprocess.run([*tool, *command], env=environment, capture_output=True, text=True)


def test_a_command_keeps_its_arguments_and_its_exit_code() -> None:
    if not offline.can_unshare():
        pytest.skip("this machine gives no network namespace")
    code = "import os, sys; print(sys.argv[1:], os.environ['ZOO_OFFLINE']); sys.exit(3)"
    done = run_offline([sys.executable, "-c", code, "a b", "*"], dict(os.environ))
    assert (done.returncode, done.stdout) == (3, "['a b', '*'] 1\n"), done.stderr


@pytest.mark.parametrize("in_ci", [False, True])
def test_without_namespaces_it_says_so_and_ci_fails(tmp_path: Path, in_ci: bool) -> None:
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\nexit 1\n")
    unshare.chmod(0o755)
    environment = {"PATH": str(tmp_path), "CI": "true" if in_ci else ""}
    assert shutil.which("unshare", path=str(tmp_path))
    done = run_offline([sys.executable, "-c", "print('ran')"], environment)
    if in_ci:
        assert done.returncode == 1 and done.stdout == ""
        assert "nothing proves that the course works offline" in done.stderr
    else:
        assert done.returncode == 0 and done.stdout.endswith("ran\n")
        assert "with the network on" in done.stdout
