"""The service dashboard without a browser: what it takes, and its stored picture."""

from __future__ import annotations

import math

import pytest

from zoo_lessons.lab.widgets import ServiceDashboard


def readings(count: int) -> list[dict]:
    return [
        {
            "time": i / 2,
            "rate": 40 + 5 * math.sin(i),
            "errors": 3.0 if i == 12 else 0.0,
            "p50": None if i == 13 else 12.0,
            "p99": None if i == 13 else 60.0 + 10 * i,
            "hits": 50.0 if i % 5 else None,
            "under_way": i % 7,
        }
        for i in range(count)
    ]


def test_rows_are_added_and_marked() -> None:
    widget = ServiceDashboard()
    assert widget.static_text() == "ServiceDashboard: no readings yet"
    for row in readings(6):
        widget.add(row)
    widget.mark("replica killed")
    assert len(widget.rows) == 6 and widget.marks == [{"time": 2.5, "text": "replica killed"}]
    assert "6 readings over 2 s; replica killed at 2 s" in widget.static_text()


def test_a_row_needs_all_fields() -> None:
    row = readings(1)[0]
    del row["p99"], row["hits"]
    with pytest.raises(ValueError, match="lacks p99, hits"):
        ServiceDashboard().add(row)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_the_stored_picture_depends_on_the_data_only(count) -> None:
    marks = [{"time": 5.0, "text": "replica killed"}]
    first, second = (ServiceDashboard(readings(count), marks).static_png() for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG") and len(first) < 60_000
