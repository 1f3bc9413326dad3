"""Training: the loop (`fit`), learning-rate schedules, and the learning-rate finder."""

from zoo_lessons.training.schedules import (
    SCHEDULES,
    constant,
    schedule_by_name,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)

__all__ = [
    "SCHEDULES",
    "constant",
    "schedule_by_name",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
