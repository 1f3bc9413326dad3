"""What tools measured on the course itself: `data/records/course/NAME.json`.

They look like the records of experiments (`zoo_lessons.records`), but no lesson reads them, and
`make record` does not make them: each names the command that does.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo_lessons.bench import describe_machine
from zoo_lessons.paths import data_dir


def course_record_path(name: str) -> Path:
    """Where a tool's record lies."""
    return data_dir() / "records" / "course" / f"{name}.json"


def read_course_record(name: str) -> dict[str, Any]:
    """A tool's record; what it measured is under "figures".

    Raises:
        FileNotFoundError: nobody has recorded it.
    """
    return json.loads(course_record_path(name).read_text("utf8"))


def write_course_record(name: str, command: str, figures: Any, seconds: float) -> None:
    """Write what a tool measured, with date and machine.

    Args:
        name: of the record.
        command: what a person types to measure it again, "make robust".
        figures: JSON-able.
        seconds: how long the measurement took.
    """
    made = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "machine": describe_machine(),
        "figures": figures,
    }
    path = course_record_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf8")
