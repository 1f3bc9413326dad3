"""Tests that run in a real browser."""

import pytest

# A failed assertion of the helpers then shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.browser.widget_page")
