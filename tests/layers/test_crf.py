"""The CRF's algorithms against enumeration: every tag sequence written out and scored by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_lessons.layers.crf import CRF


def random_crf(num_tags, seed, forbid=0.0):
    """Random scores; each transition, start and end is forbidden with probability `forbid`."""
    generator = torch.Generator().manual_seed(seed)

    def rule(*shape):
        return torch.rand(*shape, generator=generator) >= forbid

    crf = CRF(
        num_tags,
        allowed=rule(num_tags, num_tags),
        allowed_start=rule(num_tags),
        allowed_end=rule(num_tags),
    ).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return crf


def random_batch(num_tags, lengths, seed):
    """emissions, tags and mask, with large numbers in the padding, which must not matter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    emissions = 2 * torch.randn(*shape, num_tags, generator=generator, dtype=torch.float64)
    tags = torch.randint(num_tags, shape, generator=generator)
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    emissions[~mask] += 50
    tags[~mask] = -100
    return emissions, tags, mask


def enumerate_sequences(crf, emissions):
    """All legal tag sequences of one row (length, num_tags) -> their scores, in plain Python."""
    scores = {}
    for tags in itertools.product(range(crf.num_tags), repeat=len(emissions)):
        legal = crf.allowed_start[tags[0]] and crf.allowed_end[tags[-1]]
        legal = legal and all(crf.allowed[a, b] for a, b in itertools.pairwise(tags))
        if legal:
            score = crf.start[tags[0]].item() + crf.end[tags[-1]].item()
            score += sum(emissions[t, tag].item() for t, tag in enumerate(tags))
            score += sum(crf.transitions[a, b].item() for a, b in itertools.pairwise(tags))
            scores[tags] = score
    return scores


def log_sum(scores):
    top = max(scores)
    return top + math.log(math.fsum(math.exp(score - top) for score in scores))


cases = given(
    num_tags=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
    forbid=st.sampled_from([0.0, 0.0, 0.2, 0.4]),
)


@settings(max_examples=30, deadline=None)
@cases
def test_agrees_with_enumeration(num_tags, lengths, seed, forbid):
    crf = random_crf(num_tags, seed, forbid)
    emissions, _, mask = random_batch(num_tags, lengths, seed + 1)
    rows = [enumerate_sequences(crf, e[:n]) for e, n in zip(emissions, lengths, strict=True)]
    log_z = crf.log_partition(emissions, mask)
    expected = [log_sum(scores.values()) if scores else -math.inf for scores in rows]
    torch.testing.assert_close(log_z, torch.tensor(expected, dtype=torch.float64))
    if not all(rows):
        for method in (crf.decode, crf.marginals):
            with pytest.raises(ValueError, match="the rules allow no tag sequence of its length"):
                method(emissions, mask)
        return

    assert crf.decode(emissions, mask) == [list(max(row, key=row.get)) for row in rows]

    marginals = torch.zeros_like(emissions)
    for row, scores in enumerate(rows):
        for tags, score in scores.items():
            for t, tag in enumerate(tags):
                marginals[row, t, tag] += math.exp(score - expected[row])
    torch.testing.assert_close(crf.marginals(emissions, mask), marginals)

    for row, scores in enumerate(rows):  # the loss of every legal sequence, all in one batch
        n = lengths[row]
        all_tags = torch.tensor(list(scores))
        same = emissions[row, :n].expand(len(scores), n, num_tags)
        loss = crf(same, all_tags)
        assert (loss >= -1e-12).all()
        torch.testing.assert_close(
            loss, expected[row] - torch.tensor(list(scores.values()), dtype=torch.float64)
        )
        assert (-loss).exp().sum().item() == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@cases
def test_gradient_of_log_partition_is_the_marginals(num_tags, lengths, seed, forbid):
    crf = random_crf(num_tags, seed, forbid)
    emissions, _, mask = random_batch(num_tags, lengths, seed + 1)
    emissions.requires_grad_()
    log_z = crf.log_partition(emissions, mask)
    if log_z.isinf().any():
        return
    inputs = (emissions, crf.start, crf.transitions, crf.end)
    grad, start, moves, end = torch.autograd.grad(log_z.sum(), inputs, materialize_grads=True)
    torch.testing.assert_close(grad, crf.marginals(emissions, mask))
    # Each row expects one start, one end, and length - 1 legal pairs.
    assert start.sum().item() == pytest.approx(len(lengths))
    assert end.sum().item() == pytest.approx(len(lengths))
    assert moves.sum().item() == pytest.approx(sum(lengths) - len(lengths))
    assert not moves[~crf.allowed].any()


def test_tag_that_no_path_reaches_leaves_gradients_finite():
    """Tag 2 follows only itself and cannot come first, so that sums over its past are empty."""
    allowed = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    crf = CRF(3, allowed=allowed, allowed_start=torch.tensor([True, True, False]))
    emissions = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    emissions.requires_grad_()
    tags = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]])
    crf(emissions, tags).sum().backward()
    for tensor in (emissions, *crf.parameters()):
        assert tensor.grad.isfinite().all()
    assert emissions.grad[..., 2].abs().max() == 0
    assert crf.marginals(emissions)[..., 2].abs().max() == 0


def test_gradient_by_differences():
    crf = random_crf(3, seed=5)
    emissions, tags, mask = random_batch(3, [4, 1, 3], seed=6)
    emissions.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: crf(e, tags, mask), (emissions,))


def test_zero_parameters_are_independent_softmaxes():
    crf = CRF(4).double()
    emissions, tags, mask = random_batch(4, [5, 2], seed=1)
    log_p = emissions.log_softmax(-1)
    each = log_p.gather(2, tags.clamp(min=0)[..., None])[..., 0] * mask
    torch.testing.assert_close(crf(emissions, tags, mask), -each.sum(1))
    torch.testing.assert_close(crf.marginals(emissions, mask), log_p.exp() * mask[..., None])
    assert crf.decode(emissions) == emissions.argmax(-1).tolist()


def test_padding_changes_nothing():
    crf = random_crf(3, seed=2)
    emissions, tags, mask = random_batch(3, [6, 2, 4], seed=3)
    together = crf(emissions, tags, mask)
    for row, n in enumerate([6, 2, 4]):
        alone = crf(emissions[row : row + 1, :n], tags[row : row + 1, :n])
        torch.testing.assert_close(together[row], alone[0])
    assert [len(path) for path in crf.decode(emissions, mask)] == [6, 2, 4]


def test_long_sequences_with_large_scores_do_not_overflow():
    crf = random_crf(5, seed=4).float()
    emissions, _, _ = random_batch(5, [400], seed=4)
    exact = random_crf(5, seed=4).log_partition(100 * emissions)
    assert crf.log_partition(100 * emissions.float()).item() == pytest.approx(
        exact.item(), rel=1e-5
    )


def test_half_precision_emissions_are_summed_in_float32():
    crf = CRF(3)
    emissions = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    log_z = crf.log_partition(emissions)
    assert log_z.dtype == torch.float32
    torch.testing.assert_close(log_z, crf.log_partition(emissions.float()))


def test_learns_that_a_tag_follows_another():
    """Tokens say nothing; the tags alternate. Only transitions can learn that."""
    crf, emissions = CRF(2), torch.zeros(1, 6, 2)
    tags = torch.tensor([[0, 1, 0, 1, 0, 1]])
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.1)
    before = crf(emissions, tags).item()
    for _ in range(60):
        optimizer.zero_grad()
        crf(emissions, tags).sum().backward()
        optimizer.step()
    assert before == pytest.approx(6 * math.log(2))
    assert crf(emissions, tags).item() < 0.1
    assert crf.decode(emissions) == tags.tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tags": [[0, 3, 1]]}, ValueError, "from 0 to 3 .* expected 0 to 2"),
        ({"tags": [[0, -1, 1]]}, ValueError, "from -1 to 1 .* expected 0 to 2"),
        ({"tags": [[0.0, 1.0, 1.0]]}, TypeError, "tags has dtype torch.float32"),
        ({"tags": [[0, 1]]}, ValueError, r"tags has shape \(1, 2\).*\(1, 3\)"),
        ({"mask": [[1, 0, 1]]}, TypeError, "mask has dtype torch.int64, expected torch.bool"),
        ({"mask": [[True, False, True]]}, ValueError, r"row 0 is \[1, 0, 1\].*no holes"),
        ({"mask": [[False, True, True]]}, ValueError, r"row 0 is \[0, 1, 1\]"),
        ({"mask": [[False, False, False]]}, ValueError, r"row 0 is \[0, 0, 0\]"),
        ({"mask": [[True, True]]}, ValueError, r"mask has shape \(1, 2\)"),
        ({"emissions": [[[0.0, 1.0]]]}, ValueError, "last axis 3"),
        ({"emissions": [[[0.0, math.nan, 1.0]] * 3]}, ValueError, "emissions holds 3 NaN"),
        ({"tags": [[0, 1, 0]]}, ValueError, "from 1 to 0 at token 2, which `allowed` forbids"),
        ({"tags": [[2, 1, 1]]}, ValueError, "starts with 2, which `allowed_start` forbids"),
        ({"tags": [[0, 1, 2]]}, ValueError, "ends with 2, which `allowed_end` forbids"),
    ],
)
def test_errors(change, error, message):
    allowed = torch.ones(3, 3, dtype=torch.bool)
    allowed[1, 0] = False
    not_two = torch.tensor([True, True, False])
    crf = CRF(3, allowed=allowed, allowed_start=not_two, allowed_end=not_two)
    values = {"emissions": torch.zeros(1, 3, 3), "tags": torch.tensor([[0, 1, 1]]), "mask": None}
    assert crf(**values).item() > 0
    values.update({name: torch.tensor(value) for name, value in change.items()})
    with pytest.raises(error, match=message):
        crf(**values)


def test_padding_may_hold_forbidden_tags():
    allowed = torch.tensor([[True, True], [False, True]])
    crf = CRF(2, allowed=allowed, allowed_end=torch.tensor([False, True]))
    mask = torch.tensor([[True, True, False]])
    assert crf(torch.zeros(1, 3, 2), torch.tensor([[0, 1, 0]]), mask).isfinite().all()


def test_bad_rules():
    with pytest.raises(TypeError, match="allowed has dtype torch.float32, expected torch.bool"):
        CRF(2, allowed=torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"allowed_end has shape \(3,\), expected \(2,\)"):
        CRF(2, allowed_end=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="num_tags=0"):
        CRF(0)


def test_rules_move_with_the_model_but_stay_out_of_checkpoints():
    crf = CRF(2, allowed=torch.tensor([[True, False], [True, True]]))
    assert set(crf.state_dict()) == {"transitions", "start", "end"}
    assert crf.to("meta").allowed.device.type == "meta"
