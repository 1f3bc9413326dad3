"""The reading machine: who is a stranger to whom, what each training sees, and the file."""

from __future__ import annotations

import onnx
import pytest
import torch

from zoo_lessons.datasets.digits import digits
from zoo_lessons.deploy.export import OnnxModel, export_onnx
from zoo_lessons.deploy.reading_machine import (
    FOLDS,
    LABELLED,
    MODELS,
    TRAININGS,
    accuracy,
    left_out,
    moved_and_mixed,
    new_reader,
    people,
    pretrain,
    sealed,
    train_reader,
    without_notes,
)


def rows_in(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Which of the images are among the others, Boolean (n)."""
    known = {one.numpy().tobytes() for one in others}
    return torch.tensor([one.numpy().tobytes() in known for one in images])


def test_people_are_all_digits_but_the_sealed_ones():
    everyone = people()
    assert len(everyone) == FOLDS * 2
    together = torch.cat([one.images for one in everyone])
    assert torch.equal(together, digits().images[: len(together)])
    assert len(together) + len(digits("test").labels) == len(digits().labels)
    for one in everyone:  # each begins as a new person does
        assert one.labels[:30].tolist() == [*range(10)] * 3


def test_strangers_are_strangers_and_everyone_is_one_once():
    judged = 0
    for fold in range(FOLDS):
        office = left_out(fold)
        assert len(office.labelled.labels) == 8 * LABELLED
        assert rows_in(office.judged.images, office.images).float().mean() < 0.01  # equal by chance
        assert rows_in(office.labelled.images, office.images).all()
        judged += len(office.judged.labels)
    assert judged == sum(len(one.labels) for one in people())
    with pytest.raises(ValueError, match="fold=5"):
        left_out(FOLDS)


def test_sealed_digits_are_the_test_writers():
    office = sealed()
    assert torch.equal(office.judged.images, digits("test").images)
    assert len(office.labelled.labels) == 10 * LABELLED


@pytest.mark.parametrize(("model", "training"), [(m, t) for t in TRAININGS for m in TRAININGS[t]])
def test_every_training_trains_and_repeats_itself(model, training):
    office = left_out(1)
    teacher = new_reader("committee").eval()
    pretrained = pretrain(office.images, seed=3, steps=1)
    given = {"seed": 3, "teacher": teacher, "pretrained": pretrained}
    readers = [train_reader(model, training, office, steps=2, **given) for _ in range(2)]
    first, again = (torch.cat([p.flatten() for p in r.parameters()]) for r in readers)
    assert torch.equal(first, again)
    other = train_reader(model, training, office, steps=2, **{**given, "seed": 4})
    assert not torch.equal(first, torch.cat([p.flatten() for p in other.parameters()]))
    assert not readers[0].training
    assert 0 <= accuracy(readers[0], office.judged) <= 1


def test_a_student_learns_what_its_teacher_says():
    office = left_out(0)
    labels = office.labelled.labels
    teacher = train_reader("CNN", "shifts", office, seed=0, steps=60)
    student = train_reader("small CNN", "distilled", office, seed=0, teacher=teacher, steps=80)
    assert accuracy(teacher, office.judged) > 0.6
    assert accuracy(student, office.judged) > 0.5
    assert len(set(labels.tolist())) == 10


def test_only_trainings_that_fit():
    with pytest.raises(ValueError, match="'after MAE' is for ViT, got model='CNN'"):
        train_reader("CNN", "after MAE", left_out(0), seed=0)
    with pytest.raises(ValueError, match="training='prayer'"):
        train_reader("CNN", "prayer", left_out(0), seed=0)
    with pytest.raises(ValueError, match="model='LSTM'"):
        new_reader("LSTM")


def test_mixing_keeps_shares():
    draw = torch.Generator().manual_seed(0)
    images, targets = torch.rand(12, 1, 8, 8), torch.eye(10)[torch.arange(12) % 10]
    for _ in range(6):  # both MixUp and CutMix
        mixed, shares = moved_and_mixed(images, targets, draw)
        assert mixed.shape == images.shape
        torch.testing.assert_close(shares.sum(-1), torch.ones(12))


@pytest.mark.parametrize("model", [name for name in MODELS if name != "committee"])
def test_without_notes_the_file_is_smaller_and_answers_alike(model, tmp_path):
    torch.manual_seed(0)
    images = {"pixel_values": 2 * torch.rand(4, 1, 8, 8) - 1}
    path = export_onnx(new_reader(model).eval(), images, tmp_path / "a.onnx")
    slim = without_notes(path, tmp_path / "b.onnx")
    assert slim.stat().st_size < path.stat().st_size - 1000
    assert b"site-packages" not in slim.read_bytes()
    assert b".py" not in slim.read_bytes()
    onnx.checker.check_model(onnx.load(str(slim)))
    before, after = (OnnxModel(file, threads=1)(**images) for file in (path, slim))
    for name in before:
        torch.testing.assert_close(before[name], after[name])
