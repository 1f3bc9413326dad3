"""Training: the loop (`fit`), learning-rate schedules, and the learning-rate finder."""

from zoo_lessons.training.finder import RateFinderResult, learning_rate_finder
from zoo_lessons.training.fit import fit
from zoo_lessons.training.history import History, StepRecord
from zoo_lessons.training.loop import training_steps
from zoo_lessons.training.random_state import seed_everything
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
    "History",
    "RateFinderResult",
    "StepRecord",
    "constant",
    "fit",
    "learning_rate_finder",
    "schedule_by_name",
    "seed_everything",
    "training_steps",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
