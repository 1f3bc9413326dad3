"""Distillation: the loss by its formula, its gradient's scale, and states of every layer."""

import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.models import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    distil_from,
)
from zoo_lessons.parity import randomise
from zoo_lessons.training.distill import feature_loss, record_layers, soft_target_loss


def logits(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_by_the_formula(temperature):
    student, teacher = logits(0, 6, 5), logits(1, 6, 5)
    p, q = (x / temperature for x in (teacher, student))
    expected = F.kl_div(
        q.log_softmax(-1), p.log_softmax(-1), reduction="batchmean", log_target=True
    )
    found = soft_target_loss(student, teacher, temperature)
    torch.testing.assert_close(found, temperature**2 * expected)
    other_way = soft_target_loss(teacher, student, temperature)
    assert (found - other_way).abs() > 0.1  # KL has a direction


def test_no_loss_where_both_agree():
    teacher = logits(0, 6, 5)
    shifted = teacher + 7  # the softmax does not see it
    assert soft_target_loss(shifted, teacher).abs() < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_of_soft_targets(temperature):
    """Hinton et al., equation 2, times T²; and none for the teacher."""
    student, teacher = (logits(seed, 6, 5).requires_grad_() for seed in (0, 1))
    soft_target_loss(student, teacher, temperature).backward()
    softened = [(x / temperature).softmax(-1) for x in (student, teacher)]
    expected = temperature * (softened[0] - softened[1]) / 6
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None


def test_hot_temperature_compares_logits():
    """Equation 4: far above the logits, the loss becomes half their mean squared difference."""
    student, teacher = (x - x.mean(-1, keepdim=True) for x in (logits(0, 6, 5), logits(1, 6, 5)))
    expected = (student - teacher).square().mean() / 2
    torch.testing.assert_close(soft_target_loss(student, teacher, 1e4), expected, rtol=1e-2, atol=0)


def test_the_scale_of_the_gradient_stays():
    """Without T², 50 times the temperature would all but stop the learning."""
    size = {}
    for temperature in (20.0, 1000.0):
        student = logits(0, 6, 5).requires_grad_()
        soft_target_loss(student, logits(1, 6, 5), temperature).backward()
        size[temperature] = student.grad.norm()
    assert size[1000.0] / size[20.0] == pytest.approx(1, rel=0.2)


def test_masks():
    student, teacher, mask = logits(0, 2, 4, 5), logits(1, 2, 4, 5), torch.zeros(2, 4).bool()
    mask[0, 1] = mask[1, :3] = True
    for loss in (soft_target_loss, lambda a, b, mask: feature_loss(a, b, mask)):
        found = loss(student, teacher, mask=mask)
        torch.testing.assert_close(found, loss(student[mask], teacher[mask], mask=None))
        student[~mask] += 100
        torch.testing.assert_close(loss(student, teacher, mask=mask), found)


def test_features():
    student, teacher = logits(0, 2, 4, 5), logits(1, 2, 4, 5)
    assert feature_loss(3 * teacher, teacher).abs() < 1e-12  # directions only
    assert feature_loss(-teacher, teacher) == pytest.approx(2)
    expected = F.mse_loss(student, teacher)
    torch.testing.assert_close(feature_loss(student, teacher, distance="squared"), expected)
    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    feature_loss(student, teacher).backward()
    assert student.grad.any() and teacher.grad is None


SIZES = {"vocab_size": 31, "d_model": 16, "num_layers": 4, "num_heads": 2, "d_ff": 24}


def test_states_of_every_layer():
    ids = torch.arange(10).view(2, 5)
    bert = BertModel(BertConfig(**SIZES)).eval()
    with record_layers(bert) as states:
        last = bert(ids).last_hidden_state
    assert [x.shape for x in states] == [(2, 5, 16)] * 4
    assert states[-1] is last
    assert not any(torch.equal(a, b) for a, b in zip(states, states[1:], strict=False))
    bert(ids)
    assert len(states) == 4  # the hooks are gone
    albert = AlbertModel(AlbertConfig(**SIZES, d_embedding=8)).eval()
    with record_layers(albert) as states:
        assert states is not None and albert(ids).last_hidden_state is states[-1]
    assert len(states) == 4


def test_a_student_learns_its_teachers_states():
    """Teacher's layers 1 and 3 against the student's two; the teacher stays as it is."""
    torch.manual_seed(0)
    ids = torch.arange(10).view(2, 5)
    teacher = randomise(BertModel(BertConfig(**SIZES, dropout=0.0)))
    student = distil_from(teacher).train()
    optimizer, losses = torch.optim.Adam(student.parameters(), lr=3e-3), []
    for _ in range(30):
        with torch.no_grad(), record_layers(teacher) as wanted:
            teacher(ids)
        with record_layers(student) as own:
            student(ids)
        loss = sum(feature_loss(a, b) for a, b in zip(own, wanted[1::2], strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is None for p in teacher.parameters())


def test_errors():
    a, b = torch.zeros(2, 3), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"student_logits has shape \(2, 3\) and teacher_logits"):
        soft_target_loss(a, b)
    with pytest.raises(ValueError, match=r"student has shape \(2, 3\) and teacher \(2, 4\)"):
        feature_loss(a, b)
    with pytest.raises(ValueError, match="temperature=0, expected above 0"):
        soft_target_loss(a, a, 0)
    with pytest.raises(ValueError, match="distance='l1', expected one of cosine, squared"):
        feature_loss(a, a, distance="l1")
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), expected \(2,\)"):
        feature_loss(a, a, torch.ones(3).bool())
    with pytest.raises(ValueError, match="mask is False everywhere"):
        soft_target_loss(a, a, mask=torch.zeros(2).bool())
    with pytest.raises(ValueError, match="BertForMaskedLM has no ModuleList `layers`"):
        with record_layers(BertForMaskedLM(BertConfig(**SIZES))):
            pass
