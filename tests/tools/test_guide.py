"""The instructors' guide: generated parts are current, notes fit the lessons, timetables add up."""

from __future__ import annotations

import re

import pytest

from tools import guide
from zoo_lessons.lab.curriculum import LESSONS, ROUTES, lesson

NUMBERS = [entry.number for entry in guide.annotated_lessons()]
EVENTS = guide.schedules()["event"]
LONGEST_STRETCH = 115  # minutes without a break


def test_every_lesson_has_notes():
    assert NUMBERS == [entry.number for entry in LESSONS if guide.source(entry.number).exists()]


def test_generated_files_are_current():
    assert guide.stale() == [], "run python tools/guide.py"


def test_each_page_in_docs_lessons_belongs_to_notes():
    pages = {path.stem for path in guide.NOTES.glob("*.md")}
    assert pages == {entry.slug for entry in guide.annotated_lessons()}
    assert {path.stem for path in guide.NOTES.glob("*.toml")} <= {entry.slug for entry in LESSONS}


@pytest.mark.parametrize("number", NUMBERS)
def test_notes_have_what_an_instructor_needs(number):
    notes = guide.load_notes(number)
    assert set(notes) <= {"pace", "mistake", "question", "pause", "further"}
    assert 3 <= len(notes["mistake"]) <= 5
    assert len(notes["question"]) == 3
    assert len(notes["pause"]) >= (2 if number == "00" else 3)
    named = [(each["exercise"], each["name"]) for each in notes["mistake"]]
    assert len(set(named)) == len(named)
    assert all(exercise.startswith(f"{number}.") for exercise, _ in named)


@pytest.mark.parametrize("number", NUMBERS)
def test_core_exercises_fit_into_the_lesson(number):
    content = guide.outline(number)
    assert content.tasks and content.sections
    assert 0 < content.task_minutes(further=False) < lesson(number).minutes


def test_code_in_the_notes_must_make_the_mistake_that_it_stands_for():
    note = {"exercise": "01.causal_mask", "name": "a token may not look at itself"}
    strict = "lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1)"
    right = "lambda n: torch.ones(n, n, dtype=torch.bool).tril()"
    result = guide.provoke({**note, "code": strict})
    assert result.mistake == note["name"]
    with pytest.raises(ValueError, match="was expected, but check says 01.causal_mask: Passed"):
        guide.provoke({**note, "code": right})
    with pytest.raises(ValueError, match="lists no mistake 'nonsense'; it lists"):
        guide.mistake_of({**note, "name": "nonsense"})


def test_code_may_be_a_definition():
    double = guide.run_code(
        "def helper(x):\n    return x\n\ndef double(x):\n    return helper(x) * 2"
    )
    assert double(4) == 8
    assert guide.run_code("math.sqrt(4)") == 2


def test_a_pause_must_stand_in_the_lesson():
    content = guide.outline("01")
    with pytest.raises(ValueError, match="no section 99; there are"):
        content.section(99)
    late = {"pause": [{"minute": 61, "after": 1, "have": "all"}], "pace": ""}
    with pytest.raises(ValueError, match="pause at minute 61, expected more than 0 and at most 60"):
        guide.pace(lesson("01"), late, content)


def test_outline_tells_core_from_further():
    content = guide.outline("08")
    assert {9, 10} <= set(content.further)
    by_number = {task.number: task for task in content.tasks}
    assert by_number[7].further and not by_number[1].further


# --- timetables ---------------------------------------------------------------------------------


def lessons_of(event) -> list[dict]:
    return [item for day in event["day"] for item in day["items"] if "lesson" in item]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["name"])
def test_a_timetable_respects_needs_and_minutes(event):
    seen = set()
    for item in lessons_of(event):
        entry = lesson(item["lesson"])
        assert set(entry.needs) <= seen, f"{entry.number} needs {entry.needs}"
        assert 0 < item["minutes"] <= entry.minutes
        assert entry.number not in seen
        seen.add(entry.number)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["name"])
def test_a_day_adds_up_and_has_set_up_breaks_and_a_buffer(event):
    for day in event["day"]:
        total = sum(item["minutes"] for item in day["items"])
        assert guide.minutes_of(day["start"]) + total == guide.minutes_of(day["end"])
        words = [item["what"] for item in day["items"]]
        assert words[0].startswith("set-up")
        assert any(what.startswith("buffer") for what in words)
        stretch = 0
        for item in day["items"]:
            rest = "lesson" not in item and item["what"] in ("break", "lunch")
            stretch = 0 if rest else stretch + item["minutes"]
            assert stretch <= LONGEST_STRETCH, f"no break until {item['what']}"


def test_the_one_day_timetable_is_the_one_day_route():
    (event,) = [event for event in EVENTS if event["name"] == "One day"]
    (route,) = [route for route in ROUTES if route.id == "one_day"]
    planned = [(item["lesson"], item["minutes"]) for item in lessons_of(event)]
    assert planned == [(stop.lesson, stop.minutes) for stop in route.stops]


def test_the_semester_has_every_lesson_once_after_what_it_needs():
    weeks = guide.schedules()["week"]
    assert 12 <= len(weeks) <= 14
    order = [number for week in weeks for number in week["lessons"]]
    assert sorted(order) == [entry.number for entry in LESSONS]
    for index, number in enumerate(order):
        assert set(lesson(number).needs) <= set(order[:index])


def test_the_lessons_to_leave_out_are_needed_by_none():
    text = guide.GUIDE.read_text("utf8")
    sentence = text.split("two weeks' worth of ")[1].split(":")[0]
    numbers = sentence.replace(" and ", ", ").split(", ")
    needed = {number for entry in LESSONS for number in entry.needs}
    assert len(numbers) == 9 and not set(numbers) & needed


def numbers_after(word: str, text: str) -> list[int]:
    """The numbers that follow "section(s)" or "exercise(s)" in a timetable's line.

    "sections 1 to 3 and 5" gives 1, 2, 3, 5. "all but sections 5 and 8" gives 5, 8.
    """
    numbers: list[int] = []
    for part in re.split(r";", text):
        if not (found := re.search(rf"{word}s? (?=\d)(.*)", part)):
            continue
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", found[1]):
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def test_sections_that_a_timetable_names_exist():
    for event in EVENTS:
        for item in lessons_of(event):
            sections = guide.outline(item["lesson"]).sections
            for number in numbers_after("section", item["what"]):
                assert number in sections, f"{item['lesson']}: {item['what']}"
            tasks = {task.number for task in guide.outline(item["lesson"]).tasks}
            assert set(numbers_after("exercise", item["what"])) <= tasks


def test_numbers_after_reads_ranges_and_lists():
    text = "sections 1 to 3 told, 5 and 7 done; exercises 1, 2 and 4"
    assert numbers_after("section", text) == [1, 2, 3, 5, 7]
    assert numbers_after("exercise", text) == [1, 2, 4]
    assert numbers_after("exercise", "all") == []


# --- the recorded trial -------------------------------------------------------------------------


def test_the_trial_table_counts_failures(tmp_path, monkeypatch):
    import json

    run = {
        "name": "learner01",
        "login_s": 1.0,
        "server_s": 5.0,
        "copy_s": 2.0,
        "lessons": [{"lesson": "00", "seconds": 30.0}, {"lesson": "01", "seconds": 61.0}],
        "peak_mb": 900,
        "failures": ["01: cell 7: MemoryError"],
    }
    figures = {
        "learners": [run],
        "seconds": 120,
        "failures": 1,
        "room_mb": 1200,
        "hub_mb": 200,
        "least_free_mb": 5000,
        "median_peak_mb": 900,
        "memory_mb": 24000,
    }
    record = {
        "date": "2026-01-01",
        "command": "x",
        "versions": {"jupyterhub": "6"},
        "machine": {"processor": "P", "cores": 2},
        "figures": figures,
    }
    path = tmp_path / "hub_trial.json"
    monkeypatch.setattr(guide, "TRIAL", path)
    assert "Not recorded" in guide.trial_table()
    path.write_text(json.dumps(record))
    table = guide.trial_table()
    assert "| learner01 | 00, 01 | 1 | 5 | 2 | 61 | 900 | 01: cell 7: MemoryError |" in table
    assert "1 failure in 2 minutes" in table
