#!/usr/bin/env python3
"""Everything that `make test` checks: style, pairs, the test suite, and every notebook.

    python tools/run_tests.py [PYTEST ARGUMENT...]

One pytest run holds the tests and, through nbval, one execution of each notebook, spread over two
processes by file. It comes last, so that its summary ends the output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2
# Two workers with many threads each would fight for the cores.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

STEPS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "notebook pairs": ["tools/notebooks.py", "check"],
}
PYTEST = [
    *("-m", "pytest", "-n", str(WORKERS), "--dist", "loadfile"),
    *("--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"),
    *("--nbval-sanitize-with", "tests/notebooks/nbval_sanitize.cfg"),
    *("tests", "notebooks"),
]


def run(name: str, arguments: list[str]) -> bool:
    print(f"== {name}", flush=True)
    environment = {**os.environ, **ENVIRONMENT}
    return not subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment).returncode


def main(further: list[str]) -> int:
    start = time.perf_counter()
    failed = [name for name, arguments in STEPS.items() if not run(name, arguments)]
    if not run("tests and notebooks", [*PYTEST, *further]):
        failed.append("tests and notebooks")
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    print(f"total time: {minutes} min {seconds} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
