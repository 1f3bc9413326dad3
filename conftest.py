"""Plugins for every run: notebooks keep their budgets, and a long run says what took longest."""

from __future__ import annotations

pytest_plugins = ["tools.notebook_budgets", "tools.slowest"]
