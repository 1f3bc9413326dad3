"""Hooks for every run of the tests and notebooks."""

from __future__ import annotations

pytest_plugins = ["tools.notebook_budgets"]
