"""The JupyterLab harness: does it see what it is there to see?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.config import load_jupytext_configuration_file

from tests.browser.harness import Lab, LabPage
from tools.notebooks import KERNELSPEC

ADD = "# %%\ntotal = 20 + 22\nprint(total)\n"


def put(lab: Lab, path: str, text: str) -> tuple[Path, Path]:
    """Write a notebook and its paired source into the harness's copy of the course."""
    notebook = lab.root / path
    source = notebook.parent / "source" / f"{notebook.stem}.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    config = load_jupytext_configuration_file(str(lab.root / "pyproject.toml"))
    nb = jupytext.reads(text, fmt="py:percent", config=config)
    nb.metadata["kernelspec"] = KERNELSPEC  # without it, JupyterLab asks for a kernel
    source.write_text(jupytext.writes(nb, fmt="py:percent", config=config))
    nbformat.write(nb, notebook)
    return notebook, source


@pytest.mark.parametrize("path", ["notebooks/98_pair.ipynb", "notebooks/solutions/99_pair.ipynb"])
def test_saving_in_jupyterlab_keeps_the_pair(
    lab: Lab, lab_page: Callable[..., LabPage], path: str
) -> None:
    text = '# %% [markdown] tags=["title-card"]\n# $x_1$\n\n# %%\n# %%time\n# !echo\n\n' + ADD
    notebook, source = put(lab, path, text)
    before = source.read_text()
    page = lab_page(path)
    page.run_all(timeout_s=60)
    page.execute("docmanager:save")
    nb = nbformat.read(notebook, as_version=4)
    assert nb.cells[-1].outputs[0].text == "42\n"
    assert source.read_text() == before
    written = lab.root.rglob(f"{notebook.stem}*.py")
    sources = [path for path in written if ".ipynb_checkpoints" not in path.parts]
    assert sources == [source], "jupytext must not write a second source somewhere else"


def test_a_quiet_notebook_in_the_dark_theme(lab: Lab, lab_page, tmp_path: Path) -> None:
    put(lab, "notebooks/97_quiet.ipynb", ADD + "\n# %% [markdown]\n# " + "\n# \n# long " * 60)
    page = lab_page("notebooks/97_quiet.ipynb", theme="dark", width=700, height=500)
    page.run_all(timeout_s=60)
    assert page.problems() == []
    assert page.page.locator("body").get_attribute("data-jp-theme-light") == "false"
    pictures = page.screenshots("quiet", tmp_path)
    assert len(pictures) > 2 and len({picture.read_bytes() for picture in pictures}) > 2


def test_a_failing_cell_is_an_error(lab: Lab, lab_page) -> None:
    put(lab, "notebooks/96_fails.ipynb", "# %%\nraise KeyError('the reason')\n\n" + ADD)
    page = lab_page("notebooks/96_fails.ipynb")
    with pytest.raises(AssertionError, match="the reason"):
        page.run_all(timeout_s=60)


def test_errors_requests_and_accessibility_problems_are_noticed(lab: Lab, lab_page) -> None:
    put(lab, "notebooks/95_loud.ipynb", ADD)
    page = lab_page("notebooks/95_loud.ipynb")
    page.page.route("https://outside.invalid/**", lambda route: route.abort())
    page.page.evaluate(
        """async () => {
            console.error('a complaint');
            setTimeout(() => { throw new Error('uncaught'); });
            await fetch('https://outside.invalid/font.woff').catch(() => null);
            const host = document.querySelector('.jp-Notebook');
            host.insertAdjacentHTML('beforeend', '<div id="bad"><img src="data:,"></div>');
        }"""
    )
    page.page.wait_for_timeout(200)
    assert any("a complaint" in text for text in page.console_errors)
    assert page.page_errors == ["uncaught"]
    assert page.outside_requests == ["https://outside.invalid/font.woff"]
    assert [violation["id"] for violation in page.axe("#bad")] == ["image-alt"]
    assert len(page.problems()) >= 3


def test_a_notebook_that_is_not_there(lab: Lab) -> None:
    with (
        pytest.raises(FileNotFoundError, match="94_nowhere"),
        lab.open("notebooks/94_nowhere.ipynb"),
    ):
        pass
