"""The course's table agrees with itself."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import pytest

from zoo_lessons.lab.curriculum import (
    COMPONENTS,
    GLOSSARY,
    LESSONS,
    MODELS,
    NOTATION,
    PARTS,
    ROUTES,
    component,
    lesson,
    model,
)

NUMBERS = [entry.number for entry in LESSONS]


def ids(entry) -> str:
    return getattr(entry, "number", None) or entry.id


def test_lessons_00_to_24_in_order_with_slugs_that_start_with_their_number():
    assert NUMBERS == [f"{number:02d}" for number in range(25)]
    for entry in LESSONS:
        assert re.fullmatch(rf"{entry.number}_[a-z0-9_]+", entry.slug)
        assert entry.part in PARTS
    parts = [entry.part for entry in LESSONS]
    assert parts == sorted(parts, key=list(PARTS).index)


@pytest.mark.parametrize("entry", LESSONS, ids=ids)
def test_a_lesson_needs_earlier_lessons_only_and_each_once(entry):
    assert len(set(entry.needs)) == len(entry.needs)
    for number in entry.needs:
        assert number in NUMBERS
        assert number < entry.number  # earlier only, hence acyclic


@pytest.mark.parametrize("entry", LESSONS, ids=ids)
def test_needs_are_direct_only(entry):
    def all_needs(number):
        direct = lesson(number).needs
        return set(direct).union(*(all_needs(other) for other in direct))

    for number in entry.needs:
        implied = set().union(*(all_needs(other) for other in entry.needs if other != number))
        assert number not in implied


@pytest.mark.parametrize("entry", LESSONS, ids=ids)
def test_a_lesson_says_what_it_is_for(entry):
    assert 3 <= len(entry.goals) <= 5
    assert entry.question.endswith("?")
    assert 20 <= entry.minutes <= 60
    for goal in entry.goals:
        assert goal[0].islower() and not goal.endswith("."), "a goal ends 'you will be able to'"


def test_each_component_is_introduced_by_the_lesson_that_lists_it():
    from_lessons = {name: entry.number for entry in LESSONS for name in entry.uses}
    assert from_lessons == {entry.id: entry.lesson for entry in COMPONENTS}
    assert sum(len(entry.uses) for entry in LESSONS) == len(from_lessons), "introduced twice"


@pytest.mark.parametrize("entry", COMPONENTS, ids=ids)
def test_a_component_is_met_in_a_model(entry):
    assert entry.elsewhere or any(entry.id in user.components for user in MODELS)


@pytest.mark.parametrize("entry", MODELS, ids=ids)
def test_a_model_is_made_of_known_parts_from_its_lessons_or_earlier_ones(entry):
    assert entry.id in lesson(entry.lesson).models
    assert len(set(entry.components)) == len(entry.components)
    for name in entry.components:
        part = component(name)
        met = part.lesson <= entry.lesson or entry.id in lesson(part.lesson).models
        assert met or not entry.built, f"{name} comes later"
    assert str(entry.year) in entry.paper


def test_lessons_name_only_known_models_and_ids_are_unique():
    for entry in LESSONS:
        for name in entry.models:
            model(name)
    for table in (COMPONENTS, MODELS, ROUTES):
        assert len({entry.id for entry in table}) == len(table)


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_a_route_respects_needs_and_minutes(route):
    seen = []
    for stop in route.stops:
        missing = set(lesson(stop.lesson).needs) - set(seen)
        assert not missing, f"lesson {stop.lesson} needs {sorted(missing)} first"
        assert 0 < stop.minutes <= lesson(stop.lesson).minutes
        seen.append(stop.lesson)
    assert len(set(seen)) == len(seen)
    assert route.minutes == sum(stop.minutes for stop in route.stops)


def test_the_routes_that_the_course_promises():
    routes = {route.id: route for route in ROUTES}
    assert set(routes) == {"complete", "one_day", "vision_and_language", "deployment"}
    assert [stop.lesson for stop in routes["complete"].stops] == NUMBERS
    assert routes["one_day"].minutes <= 6 * 60
    assert {"09", "12"} <= {stop.lesson for stop in routes["vision_and_language"].stops}
    assert {"19", "20", "21", "22"} <= {stop.lesson for stop in routes["deployment"].stops}


def test_glossary_terms_point_to_symbols_and_lessons_that_exist():
    symbols = {row.symbol for row in NOTATION}
    assert len(symbols) == len(NOTATION)
    for name, term in GLOSSARY.items():
        assert term.symbol in symbols | {""}, name
        assert term.lesson in NUMBERS, name
        assert term.definition.endswith("."), name


def test_look_ups_name_what_exists():
    assert lesson("02").slug == "02_multi_head_attention"
    with pytest.raises(KeyError, match="no lesson '99'; there are: 00, 01"):
        lesson("99")
    with pytest.raises(KeyError, match="no component"):
        component("nonsense")


def test_entries_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        lesson("01").title = "Other"
