"""Zoo map: everything of the curriculum is on it, and planned lessons are marked."""

from __future__ import annotations

import pytest

from zoo_lessons.lab import curriculum
from zoo_lessons.lab.widgets import ZooMap
from zoo_lessons.lab.widgets.zoo_map import map_data, shipping_lessons


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which only lessons 00 (built) and 04 (source only) are written."""
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    (tmp_path / "notebooks" / "source" / "04_transformer.py").touch()
    monkeypatch.setenv("ZOO_LESSONS_ROOT", str(tmp_path))
    return tmp_path


def test_every_component_and_model_is_on_the_map_once():
    data = map_data()
    components = [c["id"] for column in data["columns"] for g in column for c in g["components"]]
    models = [m["id"] for family in data["models"] for m in family["models"]]
    assert sorted(components) == sorted(entry.id for entry in curriculum.COMPONENTS)
    assert sorted(models) == sorted(entry.id for entry in curriculum.MODELS)


def test_ids_do_not_clash():
    ids = [entry.id for entry in (*curriculum.COMPONENTS, *curriculum.MODELS)]
    ids += [entry.number for entry in curriculum.LESSONS]
    assert len(set(ids)) == len(ids)


def test_lessons_without_a_file_are_planned(checkout):
    planned = {lesson["number"]: lesson["planned"] for lesson in map_data()["lessons"]}
    assert [number for number, flag in planned.items() if not flag] == ["00", "04"]
    text = ZooMap().static_text()
    assert "04 The Transformer: " in text
    assert "06 GPT: generation (planned)" in text


def test_shipping_lessons_take_known_models_further():
    numbers = shipping_lessons()
    assert {"17", "19", "21"} <= set(numbers)
    assert "15" not in numbers and "16" not in numbers  # they open up models of their own


def test_text_lists_all_lessons_and_models():
    text = ZooMap().static_text()
    for entry in curriculum.LESSONS:
        assert f"{entry.number} {entry.title}" in text
    for entry in curriculum.MODELS:
        assert f"{entry.name} ({entry.year}, lesson {entry.lesson})" in text


@pytest.mark.parametrize("selected", ["causal_mask", "vit", "21"])
def test_any_entry_can_be_selected(selected):
    assert ZooMap(selected=selected).selected == selected


@pytest.mark.parametrize("bad", [{"selected": "t5"}, {"route": "scenic"}])
def test_unknown_entries_are_refused(bad):
    with pytest.raises(ValueError, match="must be .*one of"):
        ZooMap(**bad)
