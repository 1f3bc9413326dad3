"""The wheels that the rehearsals install."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.reach.wheels import WHEELS, wanted


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder of wheels; without it the test is skipped, in CI it fails."""
    if sys.platform == "win32":
        pytest.skip("Colab and Binder run Linux")
    stamp = WHEELS / "fetched.txt"
    if not stamp.exists() or stamp.read_text("utf8").split() != wanted():
        problem = "run `.venv/bin/python -m tests.reach.wheels` first, which needs the network"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    return WHEELS
