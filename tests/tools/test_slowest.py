"""The summary of what took longest."""

from __future__ import annotations

import os
import subprocess
import sys

from tools.notebooks import ROOT
from tools.slowest import kind, lines


def test_kinds_are_folders():
    assert kind("tests/browser/test_quiz.py") == "tests/browser"
    assert kind("tests/test_records.py") == "tests"
    assert kind("notebooks/solutions/01_attention.ipynb") == "notebooks"


def test_the_longest_come_first_with_their_share():
    seconds = {f"tests/a/test_{i}.py": 1.0 for i in range(20)} | {"notebooks/01.ipynb": 30.0}
    first, second, *rest = lines(seconds)
    assert first == ("0.8 minutes of tests on all workers together: notebooks 60%, tests/a 40%")
    assert second == "   30.0 s  notebooks/01.ipynb" and len(rest) == 11


def test_a_long_run_of_several_workers_says_it_once(tmp_path):
    (tmp_path / "test_slow.py").write_text("import time\n\ndef test_it():\n    time.sleep(0.2)\n")
    (tmp_path / "conftest.py").write_text(
        "from tools import slowest\n"
        "slowest.LONG_RUN_SECONDS = 0.1\n"
        'pytest_plugins = ["tools.slowest"]\n'
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(
        [*command, "-n", "2", "-c", os.devnull, "test_slow.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("what took longest") == 1
    assert done.stdout.count("s  test_slow.py") == 1
