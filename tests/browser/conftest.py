"""Fixtures of the browser tests. Without Chromium they skip, but in CI they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from tests.browser.harness import Lab, LabPage, find_chromium, open_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests of a worker."""
    if find_chromium() is None:
        missing = "no Chromium found: install chromium or google-chrome"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with open_browser() as running:
        yield running


@pytest.fixture(scope="session")
def lab(browser: Browser) -> Iterator[Lab]:
    """One JupyterLab server for all tests of a worker."""
    with Lab(browser) as running:
        yield running


@pytest.fixture
def lab_page(lab: Lab) -> Iterator[Callable[..., LabPage]]:
    """Open notebooks: `page = lab_page("notebooks/01_attention.ipynb", theme="dark")`.

    Takes the arguments of `Lab.open`. The notebooks and their kernels close with the test.
    """
    with ExitStack() as stack:
        yield lambda notebook, **options: stack.enter_context(lab.open(notebook, **options))
