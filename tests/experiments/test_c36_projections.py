"""C36: the task asks what it says, the layers differ as named, and the verdict follows."""

from __future__ import annotations

import pytest
import torch

from experiments.c36_projections import (
    LAYERS,
    SCALE,
    SLICE,
    Heads,
    accuracy,
    draw_shapes,
    judge,
    read_answer,
    train,
)


def test_the_answer_stands_in_the_shape_that_is_asked():
    shapes = draw_shapes(3, torch.Generator().manual_seed(0))
    name, asks_colour, asks_size, own = (shapes.x / SCALE).split(SLICE, dim=-1)
    colour, size = own.split(4, dim=-1)
    by_colour = asks_colour @ name.transpose(1, 2)  # (batch, asking, asked), 1 where names agree
    by_size = asks_size @ name.transpose(1, 2)
    assert torch.equal(by_colour.sum(-1), torch.ones(3, 8))
    assert torch.equal((by_colour @ colour).argmax(-1), shapes.colour)
    assert torch.equal((by_size @ size).argmax(-1), shapes.size)


def test_accuracy_counts_shapes_with_both_answers_right():
    shapes = draw_shapes(4, torch.Generator().manual_seed(1))

    def right(_x):
        logits = torch.zeros(4, 8, 32)
        logits[..., 24:28].scatter_(-1, shapes.colour[..., None], 1.0)
        logits[..., 28:].scatter_(-1, shapes.size[..., None], 1.0)
        return logits

    class Answers(torch.nn.Module):
        def forward(self, x):
            return right(x)

    assert accuracy(Answers(), shapes) == 1.0
    half = shapes._replace(size=(shapes.size + 1) % 4)
    assert accuracy(Answers(), half) == 0.0


@pytest.mark.parametrize("kind", ["slices", "slices + W^O"])
def test_features_do_not_leave_their_slice_without_projections(kind):
    model = Heads(*LAYERS[kind])
    x = draw_shapes(2, torch.Generator().manual_seed(2)).x
    changed = x.clone()
    changed[..., :SLICE] += torch.randn(2, 8, SLICE, generator=torch.Generator().manual_seed(3))
    model.out = torch.nn.Identity()  # before W^O
    assert torch.equal(model(changed)[..., SLICE:], model(x)[..., SLICE:])


def test_the_papers_layer_learns_and_the_loop_has_nothing_to_learn():
    test = draw_shapes(100, torch.Generator().manual_seed(4))
    assert list(Heads(*LAYERS["slices"]).parameters()) == []
    untrained = accuracy(train("projections + W^O", 0, 1e-2, steps=1), test)
    trained = accuracy(train("projections + W^O", 0, 1e-2, steps=150), test)
    assert trained > untrained + 0.2
    assert read_answer(test.x)[0].shape == (100, 8, 4)


@pytest.mark.parametrize(
    "loop, full, expected",
    [
        (0.96, 0.99, "reproduced"),
        (0.12, 0.99, "partly"),
        (0.12, 0.60, "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(loop, full, expected):
    figures = {kind: [0.3, 0.31] for kind in LAYERS}
    figures |= {"slices": [loop, loop], "projections + W^O": [full, full]}
    assert judge(figures).verdict == expected
