"""Distillation's experiment: ways differ in the loss alone, and the verdict follows its rule."""

import pytest
import torch
from torch.nn import functional as F

from experiments import c08_distillation as c08
from zoo_lessons.datasets.topics import TOPICS
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.training import seed_everything
from zoo_lessons.training.distill import feature_loss, record_layers, soft_target_loss
from zoo_lessons.weights import load_pretrained


@pytest.fixture(scope="module")
def teacher():
    seed_everything(0)
    return EarlyExit(load_pretrained("minilm"), len(TOPICS)).eval()


@pytest.fixture(scope="module")
def labelled():
    return c08.training_passages(0, labelled=2, drawn=3)


def test_labelled_passages_are_some_of_all(labelled):
    few, every = labelled
    assert few.ids.shape == (12, c08.TOKENS)
    assert len(every) == 18
    assert torch.bincount(few.labels).tolist() == [2] * 6
    rows = {tuple(row) for row in every.ids.tolist()}
    assert all(tuple(row) in rows for row in few.ids.tolist())


def test_the_teacher_teaches_layers_2_4_and_6(teacher, labelled):
    few, _ = labelled
    lesson = c08.teach(teacher, few)
    with torch.no_grad(), record_layers(teacher.encoder) as states:
        logits = teacher(few.ids, few.mask).logits
    torch.testing.assert_close(lesson.logits, logits, rtol=1e-4, atol=1e-4)
    for found, layer in zip(lesson.states, (1, 3, 5), strict=True):
        torch.testing.assert_close(found, states[layer], rtol=1e-4, atol=1e-4)


def test_each_way_adds_its_losses(teacher, labelled):
    few, _ = labelled
    lesson, rows = c08.teach(teacher, few), torch.tensor([3, 0, 5])
    student = c08.new_student(0).eval()
    with torch.no_grad():
        found = {way: c08.student_loss(way, few, lesson)(student, rows) for way in c08.WAYS}
        with record_layers(student.distilbert) as states:
            logits = student(few.ids[rows], few.mask[rows]).logits
        labels = F.cross_entropy(logits, few.labels[rows])
        soft = soft_target_loss(logits, lesson.logits[rows], c08.TEMPERATURE)
        features = sum(
            feature_loss(own, taught[rows], few.mask[rows].bool())
            for own, taught in zip(states, lesson.states, strict=True)
        )
    torch.testing.assert_close(found["alone"], labels)
    torch.testing.assert_close(found["logits"], labels + soft)
    torch.testing.assert_close(found["features"], labels + features / 3)
    torch.testing.assert_close(found["both"], labels + soft + features / 3)
    torch.testing.assert_close(found["no labels"], soft + features / 3)


def test_students_start_as_they_should():
    bert = load_pretrained("minilm")
    weight = [layer.feed_forward.up.weight for layer in bert.layers]
    for layers in (c08.EVERY_SECOND, (0, 1, 2)):
        student = c08.new_student(0, layers)
        for own, i in zip(student.distilbert.layers, layers, strict=True):
            assert torch.equal(own.feed_forward.up.weight, weight[i])
    blank = c08.new_student(0, None).distilbert
    assert not any(
        torch.equal(own.feed_forward.up.weight, w) for own in blank.layers for w in weight
    )
    assert torch.equal(blank.embeddings.word.weight, bert.embeddings.word.weight)


def test_word_embeddings_stay_and_the_rest_learns(labelled):
    few, _ = labelled
    student = c08.new_student(0)
    before = {name: p.clone() for name, p in student.state_dict().items()}
    c08.train(student, few, c08.student_loss("alone", few, None), rate=1e-3, steps=2)
    after = student.state_dict()
    same = {name for name, p in before.items() if torch.equal(p, after[name])}
    assert same == {"distilbert.embeddings.word.weight"}


def test_pruning_figures_have_a_row_for_each_order(teacher, labelled):
    few, _ = labelled
    found = c08.pruning_figures(teacher, few, few, counts=(1, 11))
    assert [len(row) for row in found["importance"]] == [12] * 6
    assert {len(row) for row in found["accuracy"].values()} == {2}


def test_early_figures_count_what_they_say():
    found = torch.tensor([[[9.0, 0.0], [0.0, 1.0]], [[9.0, 0.0], [1.0, 0.0]], [[9.0, 0], [1.0, 0]]])
    figures = c08.early_figures(found, torch.tensor([0, 1]))
    assert figures["patience"][0] == {
        "patience": 1, "accuracy": 0.5, "layers": 2.5, "left_after": [0, 1, 1],
    }  # fmt: skip
    assert figures["layer_accuracy"] == [1.0, 0.5, 0.5]
    assert figures["sure"] == [1, 1, 1]
    assert figures["sure_and_right"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("lows", "said"),
    [
        ((0.01, 0.01, 0.01, 0.01), "reproduced"),
        ((0.01, -0.01, 0.01, 0.01), "partly"),
        ((-0.01, -0.01, -0.01, 0.01), "partly"),
        ((-0.01, -0.01, -0.01, -0.01), "not measurable here"),
    ],
)
def test_the_verdict_follows_the_intervals(lows, said):
    gains = {
        way: {"mean": 0.02, "low": low, "high": 0.05}
        for way, low in zip(c08.WAYS[1:], lows, strict=True)
    }
    figures = {
        "gain": gains,
        "accuracy": {"alone": [0.6, 0.6], "teacher": [0.7, 0.7]},
        "labelled": 384,
        "seeds": 2,
    }
    found = c08.verdict(figures)
    assert found.verdict == said
    assert "teacher 0.700, student alone 0.600" in found.ours


def test_a_gain_is_paired_by_passage():
    alone = [torch.tensor([True, False, False, True]), torch.tensor([True, False, True, True])]
    better = [torch.tensor([True, True, False, True]), torch.tensor([True, True, True, True])]
    assert c08.gain(better, alone)["mean"] == 0.25
    assert c08.gain(alone, alone) == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_best_rate_is_the_most_accurate():
    assert c08.best({"0.0001": 0.5, "0.0003": 0.6, "0.001": 0.6}) == 3e-4


def test_classifiers_are_fitted_to_an_encoder_that_stays(labelled):
    few, _ = labelled
    seed_everything(0)
    model = EarlyExit(load_pretrained("minilm"), len(TOPICS))
    before = {name: p.clone() for name, p in model.encoder.state_dict().items()}
    c08.fit_classifiers(model, few)
    assert all(torch.equal(p, before[name]) for name, p in model.encoder.state_dict().items())
    right = c08.layer_logits(model, few).argmax(-1) == few.labels
    assert (right.double().mean(dim=1) > 0.5).all()  # twelve passages; chance is a sixth
