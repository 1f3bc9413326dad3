"""Generation: the filters, sampling, greedy and beam search agree with transformers' own."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from transformers.generation import logits_process

from tests.parity.honest import randomise
from zoo_lessons.generation import beam_search, generate, keep_top_k, keep_top_p, next_token
from zoo_lessons.models import GPT, GPTConfig
from zoo_lessons.weights import from_transformers

VOCAB, EOS, FREQUENT = 23, 5, 1  # this model says 1 often: beams end early and late


@pytest.fixture(scope="module")
def theirs():
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=40, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return randomise(transformers.GPT2LMHeadModel(config), seed=3).double()


@pytest.fixture(scope="module")
def ours(theirs):
    return from_transformers(theirs)


@pytest.fixture(scope="module")
def prompts():
    ids = torch.randint(6, VOCAB, (8, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :2] = mask[4, :5] = mask[6, :1] = 0
    return ids, mask


def test_top_k():
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
    out = float("-inf")
    assert keep_top_k(logits, 1).tolist() == [[out, 3, out, out], [4, out, out, out]]
    assert keep_top_k(logits, 2).tolist() == [[out, 3, 2, 2], [4, 3, out, out]]  # a tie stays
    assert torch.equal(keep_top_k(logits, 9), logits)
    assert logits[0, 0] == 1  # the input is left alone


def test_top_p_keeps_the_token_that_crosses():
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    kept = lambda p: keep_top_p(logits, p).isfinite().nonzero().flatten().tolist()  # noqa: E731
    assert kept(1e-9) == kept(0.49) == [1]
    assert kept(0.51) == kept(0.79) == [1, 3]  # 0.5 alone does not reach p, the token 0.3 crosses
    assert kept(0.81) == [0, 1, 3]
    assert kept(0.96) == kept(1.0) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_filters_as_in_transformers(seed):
    logits = 3 * torch.randn(7, 50, generator=torch.Generator().manual_seed(seed)).double()
    for k in (1, 2, 10, 50, 99):
        assert torch.equal(keep_top_k(logits, k), logits_process.TopKLogitsWarper(k)(None, logits))
    for p in (0.01, 0.3, 0.9, 0.999):
        assert torch.equal(keep_top_p(logits, p), logits_process.TopPLogitsWarper(p)(None, logits))


def test_top_p_of_one_keeps_the_rarest():
    logits = torch.tensor([0.0, -60.0, -80.0])  # in float32 the first alone sums to 1
    assert keep_top_p(logits, 1.0).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),  # p^(1/T), normalised
        ({"top_k": 2}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_p": 0.8}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ({"temperature": 0.5, "top_p": 0.8}, [0, 0, 9 / 25, 16 / 25]),  # temperature comes first
        ({"top_k": 3, "top_p": 0.75}, [0, 0, 3 / 7, 4 / 7]),  # 4/9 + 3/9 reaches 0.75: k is first
        ({"temperature": 0}, [0, 0, 0, 1]),
    ],
)
def test_sampling_frequencies(settings, expected):
    draws = 20_000
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(draws, 4)
    tokens = next_token(logits, **settings, generator=torch.Generator().manual_seed(0))
    found, expected = tokens.bincount(minlength=4) / draws, torch.tensor(expected)
    error = 4 * (expected * (1 - expected) / draws).sqrt()  # four standard errors
    assert ((found - expected).abs() <= error).all(), found


def test_next_token_shapes_and_generator():
    logits = torch.randn(3, 9)
    assert next_token(logits).shape == (3,)
    assert next_token(logits[0]).shape == ()
    assert next_token(logits[0], temperature=0) == logits[0].argmax()
    draw = lambda seed: next_token(  # noqa: E731
        torch.zeros(50, 9), generator=torch.Generator().manual_seed(seed)
    )
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("eos", [None, EOS, FREQUENT])
def test_greedy_as_in_transformers(ours, theirs, prompts, eos, use_cache):
    ids, mask = prompts
    expected = theirs.generate(
        ids, attention_mask=mask, max_new_tokens=20, do_sample=False, eos_token_id=eos,
        pad_token_id=eos or 0,
    )  # fmt: skip
    found = generate(
        ours, ids, attention_mask=mask, max_new_tokens=20, eos_token_id=eos, use_cache=use_cache
    )
    assert torch.equal(found, expected)


def test_greedy_reaches_the_end(ours, prompts):
    """The comparison above is worth something only if rows do end, and not all at once."""
    ids, mask = prompts
    found = [generate(ours, ids, attention_mask=mask, max_new_tokens=20, eos_token_id=e)[:, 6:]
             for e in range(VOCAB)]  # fmt: skip
    ends = {int((row == eos).any()) for eos, rows in enumerate(found) for row in rows}
    assert ends == {0, 1}


def test_sampling_as_in_transformers(ours, theirs, prompts):
    ids, mask = prompts
    settings = {"max_new_tokens": 15, "temperature": 0.7, "top_k": 12, "top_p": 0.9}
    for seed in range(3):
        torch.manual_seed(seed)
        expected = theirs.generate(
            ids, attention_mask=mask, do_sample=True, eos_token_id=EOS, pad_token_id=EOS, **settings
        )
        torch.manual_seed(seed)
        found = generate(ours, ids, attention_mask=mask, eos_token_id=EOS, **settings)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_on_the_left_changes_nothing(ours, prompts, use_cache):
    ids, mask = prompts
    settings = {"max_new_tokens": 8, "use_cache": use_cache}
    together = generate(ours, ids, attention_mask=mask, **settings)
    for row in range(len(ids)):
        alone = generate(ours, ids[row : row + 1, mask[row] == 1], **settings)
        assert torch.equal(together[row, 6:], alone[0, -8:])


@pytest.mark.parametrize("eos", [None, EOS, FREQUENT])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("num_beams", [2, 5, 11])
def test_beam_search_as_in_transformers(ours, theirs, prompts, num_beams, length_penalty, eos):
    for ids in prompts[0][:4, None]:
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
            num_beams=num_beams, num_return_sequences=num_beams, length_penalty=length_penalty,
            eos_token_id=eos, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        found = beam_search(
            ours, ids, num_beams=num_beams, max_new_tokens=12, length_penalty=length_penalty,
            eos_token_id=eos,
        )  # fmt: skip
        assert len(found) == num_beams
        for beam, row in zip(found, expected.sequences, strict=True):
            assert torch.equal(beam.ids, row[: len(beam.ids)])
            assert len(beam.ids) == 18 or beam.ids[-1] == eos  # theirs goes on with padding
        scores = torch.tensor([beam.score for beam in found])
        torch.testing.assert_close(scores, expected.sequences_scores)


@pytest.mark.parametrize("eos", [None, EOS, FREQUENT])
def test_one_beam_is_greedy(ours, prompts, eos):
    for ids in prompts[0][:4, None]:
        (beam,) = beam_search(ours, ids, num_beams=1, max_new_tokens=12, eos_token_id=eos)
        assert torch.equal(beam.ids, generate(ours, ids, max_new_tokens=12, eos_token_id=eos)[0])


def test_beam_search_without_cache(ours, prompts):
    ids, settings = prompts[0][:1], {"num_beams": 4, "max_new_tokens": 10, "eos_token_id": EOS}
    with_cache = beam_search(ours, ids, **settings)
    without = beam_search(ours, ids, **settings, use_cache=False)
    for a, b in zip(with_cache, without, strict=True):
        assert torch.equal(a.ids, b.ids)
        assert a.score == pytest.approx(b.score)


class Bigrams(nn.Module):
    """Another model than GPT: a table of probabilities (from, to), and no cache."""

    def __init__(self, table):
        super().__init__()
        self.logits, self.config = torch.tensor(table).log(), SimpleNamespace(num_layers=1)

    def forward(self, input_ids, attention_mask=None, *, cache=None):
        assert cache is None
        return SimpleNamespace(logits=self.logits[input_ids])


def test_beam_search_leaves_the_garden_path():
    # Token 1 looks better at first (0.6 against 0.4), but every way on from it is poor.
    model = Bigrams([[0.0, 0.6, 0.4], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]])
    start = torch.tensor([[0]])
    assert generate(model, start, max_new_tokens=2, use_cache=False).tolist() == [[0, 1, 0]]
    best, *_ = beam_search(
        model, start, num_beams=2, max_new_tokens=2, length_penalty=0.0, use_cache=False
    )
    assert best.ids.tolist() == [0, 2, 0]
    assert best.score == pytest.approx(torch.tensor(0.4 * 0.9).log().item())


def test_wide_beam_finds_the_best_of_all():
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(4, 4, generator=generator)
    model = Bigrams((table / table.sum(dim=1, keepdim=True)).tolist())
    log_p = model.logits
    paths = [(0, *path) for path in itertools.product(range(4), repeat=3)]
    scores = {path: sum(log_p[a, b] for a, b in itertools.pairwise(path)).item() for path in paths}
    found = beam_search(
        model, torch.tensor([[0]]), num_beams=64, max_new_tokens=3, length_penalty=0.0,
        use_cache=False,
    )  # fmt: skip
    assert {tuple(beam.ids.tolist()) for beam in found} == set(paths)
    assert [beam.score for beam in found] == pytest.approx(sorted(scores.values(), reverse=True))
    assert found[0].score == pytest.approx(scores[tuple(found[0].ids.tolist())])


def follow(ids):
    """Only the next two numbers, or EOS after a multiple of 6."""
    return [EOS] if ids[-1] % 6 == 0 else [(ids[-1] + 1) % VOCAB, (ids[-1] + 2) % VOCAB]


def test_allowed_tokens_as_in_transformers(ours, theirs, prompts):
    ids, mask = prompts
    settings = {"max_new_tokens": 9, "eos_token_id": EOS}
    expected = theirs.generate(
        ids, attention_mask=mask, do_sample=False, pad_token_id=EOS, **settings,
        prefix_allowed_tokens_fn=lambda _, row: follow(row.tolist()),
    )  # fmt: skip
    found = generate(ours, ids, attention_mask=mask, **settings, allowed_tokens=follow)
    assert torch.equal(found, expected)
    assert not torch.equal(found, generate(ours, ids, attention_mask=mask, **settings))
    for temperature in (1.0, 5.0):  # sampling obeys too
        rows = generate(ours, ids, temperature=temperature, allowed_tokens=follow, **settings)
        for row in rows.tolist():
            for i in range(6, len(row)):
                assert row[i] in follow(row[:i]) or EOS in row[6:i]


@pytest.mark.parametrize("num_beams", [2, 4])
def test_allowed_tokens_in_beam_search_as_in_transformers(ours, theirs, prompts, num_beams):
    allowed = lambda row: [t for t in range(VOCAB) if (t + row[-1]) % 3]  # noqa: E731
    for ids in prompts[0][:4, None]:
        settings = {"num_beams": num_beams, "max_new_tokens": 9, "eos_token_id": FREQUENT}
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **settings,
            prefix_allowed_tokens_fn=lambda _, row: allowed(row.tolist()),
            num_return_sequences=num_beams, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        found = beam_search(ours, ids, **settings, allowed_tokens=allowed)
        for beam, row in zip(found, expected.sequences, strict=True):
            assert torch.equal(beam.ids, row[: len(beam.ids)])
        scores = torch.tensor([beam.score for beam in found])
        torch.testing.assert_close(scores, expected.sequences_scores)


def test_allowed_tokens_in_beam_search(ours, prompts):
    ids, calls = prompts[0][:1], []

    def allowed(so_far):
        calls.append(so_far)
        return [7, 8] if len(so_far) < 9 else [EOS]

    found = beam_search(
        ours, ids, num_beams=20, max_new_tokens=6, eos_token_id=EOS, allowed_tokens=allowed
    )
    texts = {tuple(beam.ids[6:].tolist()) for beam in found}
    assert texts == {(*middle, EOS) for middle in itertools.product([7, 8], repeat=3)}
    assert all(len(so_far) < 10 for so_far in calls)  # a finished beam is asked no more


def test_allowed_tokens_sees_no_padding_and_no_finished_row(ours, prompts):
    ids, mask = prompts
    seen = []

    def allowed(so_far):
        seen.append(so_far)
        return [EOS] if len(so_far) >= 6 else [9]

    generate(
        ours, ids, attention_mask=mask, max_new_tokens=9, eos_token_id=EOS, allowed_tokens=allowed
    )
    assert seen[:8] == [row[keep == 1].tolist() for row, keep in zip(ids, mask, strict=True)]
    assert not any(EOS in so_far for so_far in seen)
    assert max(len(so_far) for so_far in seen) == 6
    with pytest.raises(ValueError, match="allowed_tokens returned nothing for row 0 after"):
        generate(ours, ids, max_new_tokens=2, allowed_tokens=lambda _: [])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: keep_top_k(x, 0), "k=0, expected at least 1"),
        (lambda m, x: keep_top_p(x, 0.0), "p=0.0, expected a probability above 0"),
        (lambda m, x: keep_top_p(x, 1.1), "p=1.1, expected a probability above 0"),
        (lambda m, x: next_token(x, temperature=-1), "temperature=-1, expected 0"),
        (lambda m, x: generate(m, x.long(), max_new_tokens=0), "max_new_tokens=0, expected at"),
        (lambda m, x: generate(m, x.long()[:, :0], max_new_tokens=1), r"shape \(2, 0\), expected"),
        (lambda m, x: generate(m, x[0].long(), max_new_tokens=1), r"shape \(3,\), expected"),
        (
            lambda m, x: generate(
                m, x.long(), max_new_tokens=1, attention_mask=torch.tensor([[1, 1, 0]] * 2)
            ),
            "padding on the right, expected it on the left",
        ),
        (
            lambda m, x: generate(
                m, x.long(), max_new_tokens=1, attention_mask=torch.zeros(2, 3).long()
            ),
            "padding on the right",
        ),
        (
            lambda m, x: generate(
                m, x.long(), max_new_tokens=1, attention_mask=torch.ones(2, 4).long()
            ),
            r"shape \(2, 4\), expected the prompts' \(2, 3\)",
        ),
        (lambda m, x: generate(m, x.long(), max_new_tokens=4), "most max_length=5"),
        (
            lambda m, x: beam_search(m, x.long(), num_beams=2, max_new_tokens=1),
            "num_beams=2 and 2 prompts, expected",
        ),
        (
            lambda m, x: beam_search(m, x[:1].long(), num_beams=0, max_new_tokens=1),
            "num_beams=0 and 1 prompts, expected",
        ),
    ],
)
def test_errors(call, message):
    model = GPT(GPTConfig(vocab_size=9, d_model=8, num_layers=1, num_heads=2, d_ff=8, max_length=5))
    with pytest.raises(ValueError, match=message):
        call(model, torch.ones(2, 3))


def test_fills_the_context(ours):
    """The last new token needs no position of its own, since it is not read."""
    ids = torch.ones(1, 38, dtype=torch.long)
    assert generate(ours, ids, max_new_tokens=3).shape == (1, 41)
    with pytest.raises(ValueError, match="40 cached and 1 new .* max_length=40"):
        generate(ours, ids, max_new_tokens=4)
