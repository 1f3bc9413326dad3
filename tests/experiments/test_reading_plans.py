"""Lesson 23's records: every plan is in both, and their parts do what they say."""

from __future__ import annotations

import pytest
import torch

from experiments.reading_plans import KEPT, files, read_rightly
from experiments.reading_times import REFERENCE, measure
from zoo_lessons.bench import CONTROL
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.deploy.brief import CLIENT, recorded_table, said
from zoo_lessons.deploy.plans import PRECISIONS, Plan, missed, within
from zoo_lessons.deploy.reading_machine import TRAININGS, accuracy, left_out, new_reader, sealed
from zoo_lessons.models.cnn import CNN, CNNConfig
from zoo_lessons.records import load_record


@pytest.fixture(scope="module")
def figures():
    return load_record("reading_plans")["figures"]


def test_every_plan_is_recorded_once(figures):
    expected = {
        Plan(m, t, p) for t, models in TRAININGS.items() for m in models for p in PRECISIONS
    }
    assert set(recorded_table()) == expected
    assert len(figures["plans"]) == len(expected)
    for row in figures["plans"]:
        assert len(row["strangers"]) == figures["folds"]
        assert len(row["test"]) == figures["test_seeds"]
        low, high = row["interval"]
        assert low <= row["accuracy"] <= high
        assert row["accuracy"] == pytest.approx(sum(row["strangers"]) / figures["folds"], abs=1e-4)


def test_checkpoints_read_as_recorded(figures):
    """Half precision moves a few answers at most."""
    tests = {(row["model"], row["training"]): row["test"][0] for row in figures["plans"]
             if row["precision"] == "fp32"}  # fmt: skip
    for plan, name in KEPT.items():
        assert accuracy(load_trained(name), sealed().judged) == pytest.approx(tests[plan], abs=0.01)


def test_the_brief_leaves_a_choice():
    """Two routes at least, of different models, and no plan without distillation among them."""
    table = recorded_table()
    kept = within(table, CLIENT)
    assert len({plan.model for plan in kept}) >= 2
    assert len(kept) < len(table) / 2
    for plan in set(table) - set(kept):
        assert missed(table[plan], CLIENT)


def test_said_names_every_missed_limit():
    text = said({"accuracy": 0.0123, "p99": 0.5, "throughput": 3.0, "kilobytes": 120.4})
    assert text == (
        "the accuracy by 1.2 points, p99 by 0.50 of the reference's, the throughput by 3.0 times "
        "the reference's, the file's size by 120 KB"
    )


def test_files_are_the_reader_in_both_precisions(tmp_path):
    torch.manual_seed(0)
    office = left_out(0)
    reader = CNN(CNNConfig((4, 8, 8))).eval()
    found = files(reader, office.labelled, tmp_path)
    assert list(found) == list(PRECISIONS)
    assert read_rightly(found["fp32"], office.judged) == round(accuracy(reader, office.judged), 4)
    assert read_rightly(found["INT8"], office.judged) == pytest.approx(
        read_rightly(found["fp32"], office.judged), abs=0.05
    )


def test_times_have_a_control_and_a_reference():
    models = {REFERENCE: new_reader("ViT").eval(), "small CNN": new_reader("small CNN").eval()}
    found = measure(models, torch.rand(4, 1, 8, 8), rounds=3, calls=10)
    rows = found["rows"]
    assert set(rows) == {REFERENCE, "small CNN", CONTROL}
    assert rows[REFERENCE]["p99"] == rows[REFERENCE]["p50"] == 1
    assert rows["small CNN"]["p50"] < 1 < rows["small CNN"]["throughput"]
    assert "throughput" not in rows[CONTROL]
