"""Timetables keep their order, and their bubble is the formula's."""

from __future__ import annotations

import pytest

from zoo_lessons.deploy.timetables import (
    bubble_share,
    idle_share,
    most_alive,
    order_of_work,
    timetable,
)


@pytest.mark.parametrize("schedule", ["GPipe", "1F1B"])
@pytest.mark.parametrize("stages", [1, 2, 4, 5])
@pytest.mark.parametrize("micro_batches", [1, 3, 4, 9])
def test_timetables(schedule, stages, micro_batches):
    slots = timetable(schedule, stages, micro_batches, forward=1.0, backward=1.5)
    assert len(slots) == 2 * stages * micro_batches
    by_key = {(s.stage, s.kind, s.micro_batch): s for s in slots}
    for slot in slots:
        before = slot.stage + (-1 if slot.kind == "forward" else 1)
        if 0 <= before < stages:
            assert by_key[before, slot.kind, slot.micro_batch].end <= slot.start
        if slot.kind == "backward":
            assert by_key[slot.stage, "forward", slot.micro_batch].end <= slot.start
    for stage in range(stages):
        own = [slot for slot in slots if slot.stage == stage]
        assert all(a.end <= b.start for a, b in zip(own, own[1:], strict=False))
        alive = micro_batches if schedule == "GPipe" else min(stages - stage, micro_batches)
        assert most_alive(slots, stage) == alive
    assert idle_share(slots) == pytest.approx(bubble_share(stages, micro_batches))


def test_1f1b_goes_back_as_soon_as_it_can():
    assert order_of_work("1F1B", 1, 2, 3) == [
        ("forward", 0), ("backward", 0), ("forward", 1), ("backward", 1),
        ("forward", 2), ("backward", 2),
    ]  # fmt: skip
    assert order_of_work("GPipe", 1, 2, 2) == [
        ("forward", 0), ("forward", 1), ("backward", 0), ("backward", 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="schedule='zigzag'"):
        order_of_work("zigzag", 0, 2, 2)
    with pytest.raises(ValueError, match="micro_batches=0"):
        order_of_work("GPipe", 0, 2, 0)
