"""Transformer Zoo Lessons: the library behind the notebooks."""
