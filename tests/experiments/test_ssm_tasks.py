"""The comparison is fair: sizes, starts, judging; and what is taken from Mamba is really taken."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from experiments import ssm_tasks
from experiments.ssm_tasks import (
    KEPT,
    KINDS,
    PLACES,
    accuracy,
    build,
    draw,
    knows_the_set,
    lengthen_steps,
    loss,
    same_for_all,
    selection,
    step_lengths,
    train,
)
from zoo_lessons.datasets.sequence_tasks import TASKS
from zoo_lessons.models.mamba import Mamba, MambaBlock


class Oracle(nn.Module):
    """Knows the examples: right in a given share of the places."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, input_ids):
        whole = torch.cat([input_ids[:, 1:], self.last], dim=1)
        logits = 5.0 * F.one_hot(whole, 11)
        return type("Output", (), {"logits": logits if self.right else -logits})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("right", [True, False])
def test_only_answers_are_judged(task, right):
    examples = draw(task, 500, torch.Generator().manual_seed(5))
    oracle = Oracle(right)
    oracle.last = examples.input_ids[:, -1:]
    assert accuracy(oracle, task, 5) == float(right)
    assert (loss(oracle, examples) < 0.1) == right


def test_models_are_of_about_the_same_size_and_causal():
    sizes = {}
    for kind in KINDS:
        torch.manual_seed(0)
        model = build(kind).eval()
        sizes[kind] = sum(p.numel() for p in model.layers.parameters())
        ids = draw(TASKS[1], 2, torch.Generator().manual_seed(0)).input_ids
        other = ids.clone()
        other[:, -1] = 3 + (other[:, -1] - 2) % 8
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits[:, :-1], model(other).logits[:, :-1])
    assert max(sizes.values()) < 1.2 * min(sizes.values()), sizes
    assert sum(isinstance(layer, MambaBlock) for layer in build("hybrid").layers) == 1


def test_first_steps_become_longer():
    def first(model):
        return F.softplus(model.layers[0].mixer.ssm.dt_proj.bias)

    torch.manual_seed(0)
    model = build("Mamba")
    before = first(model).detach().clone()
    lengthen_steps(model, 3.0)
    torch.testing.assert_close(first(model), 3 * before)
    assert 0.009 < before.min() < 0.1 < before.max() < 1.1
    lti = build("LTI state space").layers[0].mixer.ssm.log_delta.exp()
    assert 0.009 < lti.min() < 0.1 < lti.max() < 1.1


def test_taking_the_choice_away():
    torch.manual_seed(0)
    model = build("Mamba").eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.mixer.ssm.dt_proj.weight *= 3
    ids = draw(TASKS[1], 4, torch.Generator().manual_seed(0)).input_ids
    before = step_lengths(model, ids)
    assert [delta.shape for delta in before] == [(4, PLACES + 1 + KEPT, 64)] * 2
    assert before[0].std(dim=(0, 1)).max() > 1e-2
    whole = model(ids).logits
    with same_for_all(model, "delta"):
        averaged = step_lengths(model, ids)
        assert not torch.allclose(model(ids).logits, whole)
    mean = before[0].mean(dim=(0, 1))
    assert averaged[0].std(dim=(0, 1)).max() < 1e-6
    torch.testing.assert_close(averaged[0][0, 0], mean)  # the first layer's input is the same
    with same_for_all(model, "B and C"):
        torch.testing.assert_close(step_lengths(model, ids)[0], before[0])
        assert not torch.allclose(model(ids).logits, whole)
    assert torch.equal(model(ids).logits, whole)  # the hooks are gone


def test_a_short_training_learns_and_repeats(monkeypatch):
    monkeypatch.setattr(ssm_tasks, "EVERY", 10)
    monkeypatch.setattr(ssm_tasks, "WARMUP", 5)
    (model, curve), (_, again) = (train("Mamba", "copying", 0, 1e-2, steps=20) for _ in range(2))
    assert curve == again
    assert len(curve) == 2
    assert isinstance(model, Mamba)
    assert not model.training
    found = selection(model)
    assert set(found) == {"accuracy", "step_lengths", "same_for_all"}
    assert len(found["step_lengths"]["noise"]) == 2


def test_knowing_the_set():
    """Simulated: say the symbols in a random order."""
    generator = torch.Generator().manual_seed(0)
    ids = draw("copying", 20_000, generator).input_ids[:, PLACES + 1 :]
    order = torch.rand(ids.shape, generator=generator)
    right = []
    for place in range(KEPT):  # what has been said may not be said again
        order[:, :place] = -1
        right.append((order.argmax(dim=1) == place).float().mean())
    assert torch.stack(right).mean().item() == pytest.approx(knows_the_set(), abs=0.01)
