from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest
import torch

from zoo_lessons.datasets.ngrams import NGram, TwoSidedBigram

VOCAB_SIZE = 12


def sequences(count: int, seed: int, length: int = 20) -> torch.Tensor:
    """Walks of a sparse Markov chain, in which a token has few followers."""
    generator = torch.Generator().manual_seed(0)
    chain = torch.rand(VOCAB_SIZE - 2, VOCAB_SIZE - 2, generator=generator) ** 6  # two never occur
    generator.manual_seed(seed)
    tokens = [torch.randint(VOCAB_SIZE - 2, (count,), generator=generator)]
    for _ in range(length - 1):
        tokens.append(torch.multinomial(chain[tokens[-1]], 1, generator=generator)[:, 0])
    return torch.stack(tokens, dim=1)


def by_hand(order: int, train: list[list[int]], discounts) -> object:
    """The same model from dictionaries, one probability at a time."""
    start = VOCAB_SIZE
    counts = [Counter() for _ in range(order + 1)]
    for row in train:
        row = [start] * (order - 1) + row
        for end in range(order, len(row) + 1):
            counts[order][tuple(row[end - order : end])] += 1
    for size in range(order - 1, 0, -1):
        counts[size] = Counter(group[1:] for group in counts[size + 1])
    after = defaultdict(list)
    for size in range(1, order + 1):
        for group, count in counts[size].items():
            after[group[:-1]].append(count)

    def probability(context: tuple[int, ...], word: int) -> float:
        lower = probability(context[1:], word) if context else 1 / VOCAB_SIZE
        followers = after.get(context, [])
        if not followers:
            return lower
        discount = [0, *discounts[len(context)]]
        count = counts[len(context) + 1][(*context, word)]
        mass = sum(discount[min(other, 3)] for other in followers)
        return (count - discount[min(count, 3)] + mass * lower) / sum(followers)

    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_the_formula(order: int) -> None:
    train = sequences(30, seed=1)
    model = NGram(order, VOCAB_SIZE).fit(train)
    expected = by_hand(order, train.tolist(), model.discounts)
    for row, found in zip(
        sequences(3, seed=2).tolist(), model.token_log_probabilities(sequences(3, 2)), strict=True
    ):
        padded = [VOCAB_SIZE] * (order - 1) + row
        for place, word in enumerate(row):
            context = tuple(padded[place : place + order - 1])
            assert math.exp(found[place]) == pytest.approx(expected(context, word), rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("tuned", [False, True])
def test_probabilities_sum_to_one_and_none_is_zero(order: int, tuned: bool) -> None:
    train = sequences(50, seed=1)
    model = NGram(order, VOCAB_SIZE).fit(train, sequences(20, seed=2) if tuned else None)
    never = [VOCAB_SIZE - 1, VOCAB_SIZE - 2]  # never seen
    for context in ([], [3], never, [*never, 3], train[0, :7], train[5, -1:].tolist()):
        found = model.log_probabilities(context)
        assert found.shape == (VOCAB_SIZE,) and found.isfinite().all()
        assert found.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_one_token_at_a_time_gives_the_same() -> None:
    model = NGram(3, VOCAB_SIZE).fit(sequences(50, seed=1))
    row = sequences(1, seed=2)[0]
    one_by_one = [model.log_probabilities(row[:end])[row[end]] for end in range(len(row))]
    torch.testing.assert_close(model.token_log_probabilities([row])[0], torch.stack(one_by_one))


def test_perplexity() -> None:
    model = NGram(2, VOCAB_SIZE).fit(sequences(50, seed=1))
    rows = [[1, 2, 3], [4, 5]]
    found = model.token_log_probabilities(rows)
    assert model.perplexity(rows) == pytest.approx(math.exp(-torch.cat(found).mean()))
    later = torch.cat([one[1:] for one in found])
    assert model.perplexity(rows, first=1) == pytest.approx(math.exp(-later.mean()))


def test_a_markov_chain_needs_its_order_and_no_more() -> None:
    train, validation, test = sequences(400, 1), sequences(40, 2), sequences(100, 3)
    one, two, three = (
        NGram(order, VOCAB_SIZE).fit(train, validation).perplexity(test, first=1)
        for order in (1, 2, 3)
    )
    assert two < 0.7 * one and two < three < 1.2 * two


def test_discounts_are_tuned_on_what_is_given() -> None:
    train, validation = sequences(20, seed=1), sequences(40, seed=2)
    plain, tuned = NGram(3, VOCAB_SIZE).fit(train), NGram(3, VOCAB_SIZE).fit(train, validation)
    assert tuned.discounts.shape == (3, 3)
    assert (tuned.discounts > 0).all() and (tuned.discounts < [1, 2, 3]).all()
    assert tuned.perplexity(validation) < plain.perplexity(validation)
    again = NGram(3, VOCAB_SIZE).fit(train, validation)
    assert (again.discounts == tuned.discounts).all()


def test_two_sides_are_bayes_rule() -> None:
    train = sequences(60, seed=1)
    model = TwoSidedBigram(VOCAB_SIZE).fit(train, sequences(20, seed=2))
    bigram = NGram(2, VOCAB_SIZE).fit(train, sequences(20, seed=2))
    after = torch.stack([bigram.log_probabilities([word]) for word in range(VOCAB_SIZE)]).exp()
    for left in range(VOCAB_SIZE):
        for right in range(VOCAB_SIZE):
            joint = after[left] * after[:, right]
            found = model.log_probabilities(left, right).exp()
            torch.testing.assert_close(found, joint / joint.sum())


def test_a_hidden_neighbour_says_nothing() -> None:
    train = sequences(60, seed=1)
    model = TwoSidedBigram(VOCAB_SIZE).fit(train)
    often = torch.bincount(train.flatten(), minlength=VOCAB_SIZE) / train.numel()
    alone = model.log_probabilities(None, None).exp()
    assert (alone - often).abs().max() < 0.01 and alone.sum().item() == pytest.approx(1)
    after = NGram(2, VOCAB_SIZE).fit(train).log_probabilities([3])
    torch.testing.assert_close(model.log_probabilities(3, None), after)


def test_masked_predictions_see_only_visible_neighbours() -> None:
    model = TwoSidedBigram(VOCAB_SIZE).fit(sequences(60, seed=1))
    input_ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    masked = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    found = model.masked_log_probabilities(input_ids, masked)
    expected = [(None, 2), (5, None), (None, 8)]
    assert found.shape == (3, VOCAB_SIZE)
    for row, neighbours in zip(found, expected, strict=True):
        torch.testing.assert_close(row.double(), model.log_probabilities(*neighbours))
    hidden = model.masked_log_probabilities(input_ids.masked_fill(masked, 99), masked)
    assert torch.equal(found, hidden)


def test_two_sides_are_better_than_one() -> None:
    model = TwoSidedBigram(VOCAB_SIZE).fit(sequences(300, seed=1))
    test = sequences(40, seed=3)
    masked = torch.zeros_like(test, dtype=torch.bool)
    masked[:, 5] = True
    both = model.masked_log_probabilities(test, masked)
    left = torch.stack([model.log_probabilities(int(word), None) for word in test[:, 4]])
    truth = test[:, 5:6]
    assert both.gather(1, truth).mean() > left.gather(1, truth).mean() + 0.2


def test_errors() -> None:
    with pytest.raises(ValueError, match="order=0"):
        NGram(0, 5)
    with pytest.raises(RuntimeError, match="call fit first"):
        NGram(2, 5).log_probabilities([1])
    with pytest.raises(ValueError, match="between 1 and 7, but vocab_size is 5"):
        NGram(2, 5).fit([[1, 7]])
    with pytest.raises(ValueError, match="at least one token"):
        NGram(2, 5).fit([])
    model = NGram(2, 5).fit([[1, 2]])
    with pytest.raises(ValueError, match="vocab_size is 5"):
        model.log_probabilities([5])
    with pytest.raises(ValueError, match="first=2 leaves no token"):
        model.perplexity([[1, 2]], first=2)
    with pytest.raises(ValueError, match=r"must both be \(batch, length\)"):
        TwoSidedBigram(5).fit([[1, 2]]).masked_log_probabilities(
            torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 3, dtype=torch.bool)
        )
    with pytest.raises(RuntimeError, match="call fit first"):
        TwoSidedBigram(5).log_probabilities(1, 2)
