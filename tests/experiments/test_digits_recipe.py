"""The recipe of lesson 09: chosen on validation, told apart from the test digits, reproducible."""

from __future__ import annotations

import torch

from experiments import digits_recipe as module
from experiments.digits_recipe import RECIPES, choose, loss, measure, train, try_recipes
from zoo_lessons.datasets.digits import Digits, digits


def test_the_lowest_mean_validation_loss_wins():
    rows = [
        {"lr": 3e-3, "dropout": 0.0, "loss": [0.1, 0.4], "accuracy": [1.0, 1.0]},
        {"lr": 6e-3, "dropout": 0.1, "loss": [0.2, 0.2], "accuracy": [0.9, 0.9]},
    ]
    assert choose(rows) == {"lr": 6e-3, "dropout": 0.1}


def test_recipes_are_tried_without_the_test_digits(monkeypatch):
    asked = []

    def remember(split=None, *, new_writers=True):
        asked.append((split, new_writers))
        data = digits(split, new_writers=new_writers)
        return Digits(data.images[:64], data.labels[:64])

    monkeypatch.setattr(module, "digits", remember)
    rows = try_recipes(range(1), steps=2)
    assert asked == [("train", False), ("validation", False)]
    assert [{name: row[name] for name in ("lr", "dropout")} for row in rows] == list(RECIPES)


def test_dropout_reaches_the_model():
    data = digits("train")
    rates = {
        layer.p
        for layer in train(data, {"lr": 1e-3, "dropout": 0.1}, 0, 1).modules()
        if isinstance(layer, torch.nn.Dropout)
    }
    assert rates == {0.1}


def test_loss_is_that_of_a_guess_for_equal_logits():
    model = train(digits("train"), RECIPES[0], 0, 1)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    assert loss(model, digits("validation")) == round(torch.tensor(10.0).log().item(), 4)


def test_same_seeds_give_the_same_figures():
    once, again = (measure(RECIPES[0], range(1), steps=2) for _ in range(2))
    assert once == again and set(once) == {"shuffled", "new writers"}
