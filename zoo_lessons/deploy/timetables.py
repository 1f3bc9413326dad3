"""When the stages of a pipeline work on what: timetables of GPipe and 1F1B, and their bubble.

Sources: Huang et al., "GPipe" (2019), section 2.3; Narayanan et al., "Efficient Large-Scale
Language Model Training on GPU Clusters" (2021), section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["GPipe", "1F1B"]
Kind = Literal["forward", "backward"]


@dataclass(frozen=True)
class Slot:
    """A stage works on a micro-batch from `start` to `end`."""

    stage: int
    micro_batch: int
    kind: Kind
    start: float
    end: float


def order_of_work(
    schedule: Schedule, stage: int, stages: int, micro_batches: int
) -> list[tuple[Kind, int]]:
    """What a stage does, in order.

    GPipe sends all micro-batches forward, then all backward. 1F1B starts with as many forward
    passes as there are later stages, then does one forward and one backward in turns.

    Raises:
        ValueError: an unknown schedule, or no stage, or no micro-batch.
    """
    if schedule not in ("GPipe", "1F1B"):
        raise ValueError(f"schedule={schedule!r}, expected 'GPipe' or '1F1B'")
    if stages < 1 or micro_batches < 1:
        raise ValueError(f"stages={stages} and micro_batches={micro_batches} must be at least 1")
    ahead = micro_batches if schedule == "GPipe" else min(stages - stage - 1, micro_batches)
    work: list[tuple[Kind, int]] = [("forward", i) for i in range(ahead)]
    for i in range(micro_batches):
        if ahead + i < micro_batches:
            work.append(("forward", ahead + i))
        work.append(("backward", i))
    return work


def timetable(
    schedule: Schedule,
    stages: int,
    micro_batches: int,
    *,
    forward: float = 1.0,
    backward: float = 2.0,
) -> list[Slot]:
    """When each stage works on what, if all stages are equally fast and sending takes no time.

    Args:
        schedule: "GPipe" or "1F1B".
        stages, micro_batches: how many.
        forward, backward: how long a stage takes for a micro-batch.

    Returns:
        Slots in the order of their starts.
    """
    todo = [order_of_work(schedule, s, stages, micro_batches) for s in range(stages)]
    ends: dict[tuple[int, Kind, int], float] = {}
    free = [0.0] * stages
    slots = []
    while any(todo):
        for stage, work in enumerate(todo):
            if not work:
                continue
            kind, i = work[0]
            needs = [(stage - 1, kind, i)] if kind == "forward" else [(stage + 1, kind, i)]
            needs = [need for need in needs if 0 <= need[0] < stages]
            if any(need not in ends for need in needs):
                continue
            start = max([free[stage], *(ends[need] for need in needs)])
            end = start + (forward if kind == "forward" else backward)
            ends[stage, kind, i] = free[stage] = end
            slots.append(Slot(stage, i, kind, start, end))
            work.pop(0)
    return sorted(slots, key=lambda slot: (slot.start, slot.stage))


def idle_share(slots: Sequence[Slot]) -> float:
    """The share of all stages' time, from start to finish, in which a stage does nothing."""
    stages = 1 + max(slot.stage for slot in slots)
    busy = sum(slot.end - slot.start for slot in slots)
    return 1 - busy / (stages * max(slot.end for slot in slots))


def bubble_share(stages: int, micro_batches: int) -> float:
    """(p - 1) / (m + p - 1): the idle share of both schedules (GPipe, section 2.3)."""
    return (stages - 1) / (micro_batches + stages - 1)


def most_alive(slots: Iterable[Slot], stage: int) -> int:
    """Micro-batches whose forward is done and whose backward is not, at the worst moment.

    A stage keeps the activations of each of them.
    """
    changes = []
    for slot in slots:
        if slot.stage == stage:
            # Activations come to be while the forward runs, and go when the backward ends.
            changes.append((slot.start, 1) if slot.kind == "forward" else (slot.end, -1))
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most
