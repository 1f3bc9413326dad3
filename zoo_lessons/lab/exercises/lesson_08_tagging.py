"""Exercises of lesson 08's further sections; `lesson_08` lists them after its own."""

from __future__ import annotations

from zoo_lessons.lab.exercises.grading import Exercise

TAGGING_EXERCISES: tuple[Exercise, ...] = ()
