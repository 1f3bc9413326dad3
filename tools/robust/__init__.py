"""`make robust`: do the lessons' results hold again, with other seeds, and on other Pythons?

- `kernel`: what runs inside a lesson's kernel: it moves the seeds and writes down the assertions;
- `runs`: one execution of one lesson, kept in `build/robust/` so that a run can be cut off;
- `summary`: what many executions say, and the table in `docs/robustness.md`;
- `pythons`: the unit tests on every Python of this machine.
"""
