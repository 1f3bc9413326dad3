"""A learner's progress: which exercises have passed, kept in one small file on this computer.

Nothing leaves the machine. The file holds, for each exercise that was tried, its id, how often it
was checked until it passed, and the day of the first pass. It holds no answer, no code, no name.

It lies in the user's own data folder, outside of the repository:

| system | file |
|---|---|
| Linux | `~/.local/share/zoo-lessons/progress.json` |
| macOS | `~/Library/Application Support/zoo-lessons/progress.json` |
| Windows | `%LOCALAPPDATA%\\zoo-lessons\\progress.json` |

The environment variable `ZOO_PROGRESS` names another file, or says `off`.

**What counts** is a learner's own answer in a notebook that a learner has opened:

- A function must be written in the notebook with `def`. What a lesson passes to `check` to show how
  a check looks is a lambda, and what it imports belongs to the library.
- A notebook in a folder `solutions` counts nothing.
- A program that executes notebooks, such as the builder, a test or `nbconvert`, is no learner. Only
  Jupyter's server, VS Code and Colab tell a kernel which notebook somebody has opened; without that
  nothing is kept, unless `ZOO_PROGRESS` names a file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from IPython import get_ipython
from IPython.display import Markdown
from platformdirs import user_data_path

from zoo_lessons.lab.curriculum import lesson

FOLDER, FILE, VARIABLE, OFF = "zoo-lessons", "progress.json", "ZOO_PROGRESS", "off"
VERSION = 1
LOCK_S = 3.0  # another kernel holds the lock for a few milliseconds

_said: set[str] = set()  # each sentence once per kernel


@dataclass(frozen=True)
class Entry:
    """One exercise: checks until it passed, and the day of the first pass ("" before)."""

    tries: int = 0
    passed: str = ""


class ProgressDamaged(ValueError):
    """The file is not what this module writes. The message says where it is and what is wrong."""


# --- where, and whether ------------------------------------------------------------------------


def progress_file() -> Path | None:
    """The file in which progress is kept; None where none is kept, see the first lines."""
    setting = os.environ.get(VARIABLE, "").strip()
    if setting.lower() == OFF:
        return None
    if setting:
        return Path(setting).expanduser()
    if not _learner_is_there():
        return None
    return user_data_path(FOLDER, appauthor=False) / FILE


def on_a_borrowed_machine() -> bool:
    """Whether this is Colab or Binder, where files end with the session."""
    return "google.colab" in sys.modules or "BINDER_SERVICE_HOST" in os.environ


def _learner_is_there() -> bool:
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return False
    return _notebook() is not None or "google.colab" in sys.modules


def _notebook() -> Path | None:
    """The notebook that this kernel was opened for, as Jupyter's server or VS Code says."""
    named = os.environ.get("JPY_SESSION_NAME")
    if not named and (shell := get_ipython()) is not None:
        named = shell.user_ns.get("__vsc_ipynb_file__")
    return Path(named) if named else None


def _in_solutions() -> bool:
    notebook = _notebook()
    folder = Path.cwd() if notebook is None else notebook.parent
    return folder.name == "solutions"


def _is_learners(answer: Any) -> bool:
    """Whether an answer was written in the notebook, with a name. A plain value was."""
    if not callable(answer):
        return True
    named = answer if hasattr(answer, "__name__") else type(answer)
    return named.__module__ == "__main__" and named.__name__ != "<lambda>"


# --- writing -----------------------------------------------------------------------------------


def note(id: str, status: str, answer: Any) -> None:
    """Keep the outcome of a check, if it counts. Never raises: a check must not fail for this.

    Args:
        id: of the exercise.
        status: of its `CheckResult`.
        answer: what was checked.
    """
    if status == "not attempted" or not _is_learners(answer) or _in_solutions():
        return
    file = progress_file()
    if file is None:
        return
    try:
        with _locked(file):
            _write(file, _with_outcome(_read_or_set_aside(file), id, status == "passed"))
    except (OSError, NotImplementedError) as error:  # the latter: no locks on this file system
        reason = getattr(error, "strerror", None) or type(error).__name__
        _say_once(f"Your progress is not kept ({reason}: {file}). The check itself is unaffected.")


def forget_progress() -> None:
    """Delete what is kept of your progress, and say what it was."""
    file = progress_file()
    if file is None or not file.exists():
        print("Nothing was kept, so nothing was deleted.")
        return
    with _locked(file):
        try:
            what = _summary(read_progress(file))
        except ProgressDamaged:
            what = "a damaged file"
        file.unlink()
    with suppress(OSError):
        Path(f"{file}.lock").unlink()
    print(f"Deleted {file}: {what}.")


def _with_outcome(kept: Mapping[str, Entry], id: str, passed: bool) -> dict[str, Entry]:
    before = kept.get(id, Entry())
    if before.passed:
        return dict(kept)
    today = datetime.now(UTC).date().isoformat() if passed else ""
    return {**kept, id: Entry(before.tries + 1, today)}


def _locked(file: Path) -> FileLock:
    """Two kernels may check at a time: each reads, adds and writes while the other waits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock", timeout=LOCK_S)


def _read_or_set_aside(file: Path) -> dict[str, Entry]:
    try:
        return read_progress(file)
    except ProgressDamaged as error:
        aside = file.with_suffix(".damaged.json")
        file.replace(aside)
        _say_once(f"{error}. It was renamed to {aside.name}, and a new one begun.")
        return {}


def _write(file: Path, kept: Mapping[str, Entry]) -> None:
    """All or nothing: whoever reads meanwhile sees the old file or the new one."""
    exercises = {id: asdict(entry) for id, entry in sorted(kept.items())}
    text = json.dumps({"version": VERSION, "exercises": exercises}, indent=1) + "\n"
    handle, new = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(new, file)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        print(sentence)


# --- reading -----------------------------------------------------------------------------------


def read_progress(file: Path | None = None) -> dict[str, Entry]:
    """Exercise's id -> what is kept of it. Empty where nothing is kept.

    Raises:
        ProgressDamaged: the file is not one of ours.
        OSError: it cannot be read.
    """
    file = progress_file() if file is None else file
    if file is None or not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = {id: Entry(**entry) for id, entry in content["exercises"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProgressDamaged(f"{file} is damaged ({type(error).__name__})") from error
    if not all(isinstance(e.tries, int) and isinstance(e.passed, str) for e in found.values()):
        raise ProgressDamaged(f"{file} is damaged (its entries are not numbers of tries and days)")
    return found


def lesson_counts() -> dict[str, tuple[int, int]]:
    """Lesson -> (exercises passed, exercises), for the zoo map; empty where nothing is kept."""
    if progress_file() is None:
        return {}
    try:
        kept = read_progress()
    except (ProgressDamaged, OSError):
        return {}
    return {
        number: (sum(bool(kept.get(id, Entry()).passed) for id in ids), len(ids))
        for number, ids in _exercises().items()
    }


def progress() -> Markdown:
    """Your progress: for each lesson that you have begun, what is solved and what is open."""
    file = progress_file()
    if file is None:
        return Markdown(_why_not())
    try:
        kept = read_progress(file)
    except (ProgressDamaged, OSError) as error:
        return Markdown(f"Your progress cannot be shown: {error}.")
    lines = ["| Lesson | Solved | Open |", "|:---|:---|:---|"]
    for number, ids in _exercises().items():
        if any(id in kept for id in ids):
            still = [id for id in ids if not kept.get(id, Entry()).passed]
            solved = f"{len(ids) - len(still)} of {len(ids)}"
            listed = ", ".join(f"`{id}`" for id in still) or "none"
            lines.append(f"| {_link(number)} | {solved} | {listed} |")
    if len(lines) == 2:
        lines = ["No exercise has been checked yet."]
    return Markdown("\n".join([*lines, "", _suggestion(kept), "", _where(file)]))


def next_exercise(kept: Mapping[str, Entry]) -> str | None:
    """The id to go on with: open exercises of a lesson that was begun, or else of the next lesson
    after those. None when all are solved."""
    exercises = _exercises()
    begun = [number for number, ids in exercises.items() if any(id in kept for id in ids)]
    later = [number for number in exercises if not begun or number > begun[-1]]
    rest = [number for number in exercises if number not in (*begun, *later)]
    for number in (*begun, *later, *rest):
        for id in exercises[number]:
            if not kept.get(id, Entry()).passed:
                return id
    return None


def _exercises() -> dict[str, tuple[str, ...]]:
    """Lesson -> ids of its exercises."""
    from zoo_lessons.lab.exercises import exercise_ids, lessons_with_exercises

    return {number: exercise_ids(number) for number in lessons_with_exercises()}


def _suggestion(kept: Mapping[str, Entry]) -> str:
    from zoo_lessons.lab.exercises import exercise

    id = next_exercise(kept)
    if id is None:
        return "Every exercise of the course is solved."
    return f"**Next:** {exercise(id).title} (`{id}`), in {_link(id[:2])}."


def _summary(kept: Mapping[str, Entry]) -> str:
    solved = [id for id, entry in kept.items() if entry.passed]
    lessons = {id.partition(".")[0] for id in kept}
    return f"{len(solved)} solved of {len(kept)} tried exercises, in {len(lessons)} lessons"


def _where(file: Path) -> str:
    if on_a_borrowed_machine():
        return (
            "Kept on this machine only, which is lent to you for the session: when it is given "
            "back, this is gone, and other notebooks' machines do not see it."
        )
    return f"Kept in `{file}`, on this computer only. `lab.forget_progress()` deletes it."


def _why_not() -> str:
    if os.environ.get(VARIABLE, "").strip().lower() == OFF:
        return f"No progress is kept: the environment variable `{VARIABLE}` is `{OFF}`."
    return (
        "Your progress will stand here when you run this notebook yourself. A program has run it, "
        "and of that nothing is kept."
    )


def _link(number: str) -> str:
    entry = lesson(number)
    return f"[{number} {entry.title}]({entry.slug}.ipynb)"
