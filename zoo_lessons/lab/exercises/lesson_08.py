"""Exercises of lesson 08: the classifier, spans of an answer, F1, freezing, two streams."""

from __future__ import annotations

from zoo_lessons.lab.exercises.grading import Exercise
from zoo_lessons.lab.exercises.lesson_08_tagging import TAGGING_EXERCISES

EXERCISES: tuple[Exercise, ...] = (*TAGGING_EXERCISES,)
