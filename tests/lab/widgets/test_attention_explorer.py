"""The attention explorer's Python side: forms of input, errors, traits, the static picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import AttentionExplorer
from zoo_lessons.lab.widgets.attention_explorer import attention_array

TOKENS = ["[CLS]", "the", "cat", "sat", "[SEP]"]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(size=shape, scale=2)
    exp = np.exp(scores)
    return (exp / exp.sum(-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def explorer() -> AttentionExplorer:
    return AttentionExplorer(weights(3, 4, 5, 5), TOKENS, layer=1, head=2)


def as_layers(array: np.ndarray, batched: bool) -> list[torch.Tensor]:
    return [torch.tensor(layer[None] if batched else layer) for layer in array]


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a,
        lambda a: torch.tensor(a, requires_grad=True),
        lambda a: a[:, None],
        lambda a: torch.tensor(a[:, None]),
        lambda a: as_layers(a, batched=False),
        lambda a: tuple(as_layers(a, batched=True)),
        lambda a: [
            SimpleNamespace(name=str(i), weights=w) for i, w in enumerate(as_layers(a, True))
        ],
    ],
)
def test_every_form_of_maps_gives_the_same_array(form):
    expected = weights(3, 4, 5, 5)
    array = attention_array(form(expected))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


def test_fewer_axes_mean_one_layer_and_one_head():
    assert attention_array(weights(4, 5, 6)).shape == (1, 4, 5, 6)
    assert attention_array(weights(5, 6)).shape == (1, 1, 5, 6)


def test_half_precision_and_rows_of_zeros_are_accepted():
    half = torch.softmax(torch.randn(1, 2, 40, 40, generator=torch.manual_seed(0)), -1)
    half[:, :, 0] = 0
    assert attention_array(half.bfloat16()).shape == (1, 2, 40, 40)


def test_maps_of_our_own_models_are_accepted():
    from zoo_lessons.layers import MultiHeadAttention, record_attention

    layer = MultiHeadAttention(8, 2).eval()
    with record_attention(layer) as maps:
        layer(torch.randn(1, 5, 8, generator=torch.manual_seed(0)))
    assert AttentionExplorer(maps, TOKENS).weights.shape == (1, 2, 5, 5)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (weights(2, 2, 3, 5, 5), r"batch of 2 .*pick one example"),
        ([weights(2, 2, 5, 5)], r"layer 0 has a batch of 2"),
        ([weights(5, 5)], r"layer 0 must have shape \(heads, queries, keys\)"),
        ([weights(2, 5, 5), weights(2, 5, 4)], r"one shape .*\(2, 5, 4\), \(2, 5, 5\)"),
        ([], r"holds no maps.*eager"),
        (weights(1, 1, 1, 2, 5, 5), r"must have shape \(layers"),
        (np.zeros((2, 0, 5, 5)), r"empty axis: \(2, 0, 5, 5\)"),
        (weights(2, 2, 5, 5) * 2, r"layer 0, head 0, query 0 sums to 2"),
        (weights(2, 2, 5, 5) - 0.5, r"not be negative.*not the scores"),
        (weights(2, 2, 5, 5) * np.nan, r"NaN"),
    ],
)
def test_wrong_arrays_are_refused_with_a_reason(attention, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(attention, TOKENS)


@pytest.mark.parametrize("attention", [None, 3, np.array([["a"]])])
def test_wrong_types_are_refused(attention):
    with pytest.raises(TypeError, match="attention must"):
        AttentionExplorer(attention, TOKENS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": TOKENS[:4]}, "5 keys but tokens has 4"),
        ({"query_tokens": TOKENS[:4]}, "5 queries but query_tokens has 4"),
        ({"names": ["one"]}, "2 layers but names has 1"),
        ({"layer": 2}, r"layer=2 is outside 0\.\.1"),
        ({"head": -1}, r"head=-1 is outside 0\.\.3"),
    ],
)
def test_labels_and_indices_must_fit(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(weights(2, 4, 5, 5), **{"tokens": TOKENS, **options})


def test_cross_attention_needs_query_tokens():
    cross = weights(2, 4, 3, 5)
    with pytest.raises(ValueError, match="3 queries and 5 keys, so query_tokens"):
        AttentionExplorer(cross, TOKENS)
    shown = AttentionExplorer(cross, TOKENS, ["le", "chat", "."])
    assert shown._payload["queries"] == 3
    assert shown._payload["same"] is False


def test_the_payload_keeps_four_decimals_and_small_weights(explorer):
    sink = np.full((1, 1, 3, 3), 1e-6, np.float32)
    sink[..., 0] = 1 - 2e-6
    for array in (explorer.weights, sink):
        widget = AttentionExplorer(array, TOKENS[: array.shape[-1]])
        codes = np.frombuffer(widget._payload["weights"], "<u2").reshape(array.shape)
        decoded = (codes / 65535.0) ** 2
        assert np.abs(decoded - array).max() < 5e-5
    # Renormalising without the sink divides by 2e-6: the two equal rests must come out as halves.
    rest = decoded[..., 1:] / decoded[..., 1:].sum(-1, keepdims=True)
    np.testing.assert_allclose(rest, 0.5, atol=1e-6)


def test_choices_are_traits_that_stay_in_range(explorer):
    assert (explorer.layer, explorer.head, explorer.locked) == (1, 2, -1)
    explorer.locked = 4
    with pytest.raises(traitlets.TraitError, match=r"head=4 is outside 0\.\.3"):
        explorer.head = 4
    with pytest.raises(traitlets.TraitError, match=r"locked=5 is outside -1\.\.4"):
        explorer.locked = 5


def test_update_replaces_everything_and_keeps_the_choice_where_it_can(explorer):
    explorer.locked = 4
    explorer.update(weights(1, 4, 2, 2), ["a", "b"])
    assert (explorer.layer, explorer.head, explorer.locked) == (0, 2, -1)
    assert explorer.tokens == ["a", "b"]
    assert explorer._payload["keys"] == 2


def test_a_refused_update_changes_nothing(explorer):
    before = explorer._payload
    with pytest.raises(ValueError, match="tokens has 1"):
        explorer.update(weights(1, 4, 2, 2), ["a"])
    assert explorer._payload is before
    assert explorer.tokens == TOKENS


def attend(sentence: str):
    words = sentence.split()
    if len(words) > 6:
        raise ValueError(f"The sentence has {len(words)} words; 6 are the most.\nMore detail.")
    if words == ["crash"]:
        raise KeyError("gone")
    return weights(2, 2, len(words), len(words)), words


def ask(explorer: AttentionExplorer, text: str) -> dict:
    sent = []
    explorer.send = sent.append
    message = {"kind": "sentence", "text": text, "request": "r1"}
    explorer._handle_custom_msg(message, [])
    return sent[0]


def test_the_text_box_runs_the_callback_and_answers():
    explorer = AttentionExplorer(*attend("a b c"), on_text=attend, text="a b c")
    assert ask(explorer, "now four words here") == {"kind": "answer", "request": "r1", "error": ""}
    assert explorer.tokens == ["now", "four", "words", "here"]
    assert explorer.text == "now four words here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "Type a sentence first."),
        ("one two three four five six seven", "The sentence has 7 words; 6 are the most."),
        ("crash", "KeyError: 'gone'"),
    ],
)
def test_errors_of_the_callback_are_one_sentence(text, message):
    explorer = AttentionExplorer(*attend("a b c"), on_text=attend)
    assert ask(explorer, text)["error"] == message
    assert explorer.tokens == ["a", "b", "c"]


def test_without_callback_there_is_no_text_box(explorer):
    assert explorer._has_text_box is False
    with pytest.raises(ValueError, match="no on_text"):
        explorer.show_text("hello")


def test_static_text_has_no_address(explorer):
    assert explorer.static_text() == (
        "AttentionExplorer: 3 layers x 4 heads, 5 queries x 5 keys; showing layer 1, head 2"
    )


def test_static_picture_is_deterministic_and_follows_the_choice(explorer):
    again = AttentionExplorer(weights(3, 4, 5, 5), TOKENS, layer=1, head=2)
    first = explorer.static_png()
    assert first == again.static_png()
    again.head = 3
    assert first != again.static_png()
    again.head, again.locked = 2, 1
    assert first != again.static_png()


@pytest.mark.parametrize("color_map", ["viridis", "greys"])
def test_static_picture_follows_the_colour_map(explorer, color_map):
    other = AttentionExplorer(explorer.weights, TOKENS, layer=1, head=2, color_map=color_map)
    assert other.static_png() != explorer.static_png()


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 70, 70), (2, 3, 4, 50)])
def test_static_picture_of_other_shapes(shape):
    queries, keys = shape[2:]
    cash = [f"${i}$" for i in range(keys)]  # must not be read as mathematics
    explorer = AttentionExplorer(weights(*shape), cash, [f"q{i}" for i in range(queries)])
    assert explorer.static_png().startswith(b"\x89PNG")
    assert len(explorer.static_png()) < 150_000
