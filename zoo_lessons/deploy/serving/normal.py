"""Inputs of the time when all was well: the drift detector compares today's with them.

python -m zoo_lessons.deploy.serving.normal > inputs.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from zoo_lessons.paths import repository_root


def normal_inputs() -> list[dict[str, Any]]:
    """The validation digits, as the digit reader takes them."""
    from zoo_lessons.datasets.digits import digits

    images = digits("validation", new_writers=False).images[:, 0]  # (258, 8, 8)
    return [{"image": image} for image in images.tolist()]


def read_apart() -> list[dict[str, Any]]:
    """`normal_inputs()`, by a process that ends when it has read them.

    The digits come with scikit-learn, and as PyTorch's tensors. A service that imported both for
    this one list would keep 200 MB for as long as it lives.

    Raises:
        subprocess.CalledProcessError: the process failed; it has said why on standard error.
    """
    command = [sys.executable, "-m", "zoo_lessons.deploy.serving.normal"]
    done = subprocess.run(command, cwd=repository_root(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    json.dump(normal_inputs(), sys.stdout)
