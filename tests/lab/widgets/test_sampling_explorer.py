"""The sampling explorer's Python side: text and logits, byte-level tokens, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from zoo_lessons.generation import keep_top_k, keep_top_p
from zoo_lessons.lab.widgets import SamplingExplorer
from zoo_lessons.lab.widgets.sampling_explorer import token_label

VOCABULARY = ["<eos>", " the", " cat", " sat", " mat", ".", "\n"]
LONGEST = 6


def encode(text: str) -> list[int]:
    return [VOCABULARY.index(f" {word}") for word in text.split()]


def next_logits(ids: list[int]) -> np.ndarray:
    if len(ids) > LONGEST:
        raise ValueError(f"The text has {len(ids)} tokens; this model reads at most {LONGEST}.")
    return np.random.default_rng(ids).normal(size=len(VOCABULARY), scale=2)


def explorer(prompt: str = "the cat", **options) -> SamplingExplorer:
    return SamplingExplorer(prompt, VOCABULARY, next_logits, encode, **options)


def ask(shown: SamplingExplorer, **content) -> str:
    """The error that the reader sees, or ""."""
    sent = []
    shown.send = sent.append
    shown._handle_custom_msg({**content, "request": "r"}, [])
    return sent[0]["error"]


def test_tokens_are_appended_and_taken_back():
    shown = explorer()
    assert (shown.ids, shown.text) == ([1, 2], "the cat")
    first = shown.logits
    np.testing.assert_array_equal(first, next_logits([1, 2]).astype(np.float32))
    model, kept = shown.probabilities()
    shown.append(3)
    shown.append(5)
    assert (shown.ids, shown.text) == ([1, 2, 3, 5], "the cat sat.")
    np.testing.assert_array_equal(shown.logits, next_logits([1, 2, 3, 5]).astype(np.float32))
    token = shown._payload["tokens"][0]
    assert (token["label"], token["text"]) == ("␣sat", " sat")
    assert token["model"] == token["kept"] == model[3] == kept[3]
    shown.undo()
    shown.undo()
    assert (shown.ids, shown._payload["tokens"]) == ([1, 2], [])
    np.testing.assert_array_equal(shown.logits, first)
    shown.undo()  # nothing left to take back
    assert shown.ids == [1, 2]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.6), (4, 0.7)])
def test_probabilities_are_the_librarys(temperature, top_k, top_p):
    shown = explorer(temperature=temperature, top_k=top_k, top_p=top_p)
    logits = torch.tensor(shown.logits, dtype=torch.float64)
    filtered = logits / temperature
    filtered = filtered if top_k is None else keep_top_k(filtered, top_k)
    filtered = filtered if top_p is None else keep_top_p(filtered, top_p)
    model, kept = shown.probabilities()
    np.testing.assert_allclose(model, logits.softmax(-1), rtol=1e-12)
    np.testing.assert_allclose(kept, filtered.softmax(-1), rtol=1e-12)


def test_temperature_0_takes_the_likeliest():
    shown = explorer(temperature=0, top_k=2, top_p=0.1)
    _, kept = shown.probabilities()
    assert kept.tolist() == [float(i == shown.logits.argmax()) for i in range(len(VOCABULARY))]


@pytest.mark.parametrize("shape", [(7,), (1, 7), (1, 1, 7)])
def test_logits_may_be_tensors_with_leading_axes(shape):
    def bfloat(ids: list[int]) -> torch.Tensor:
        return torch.arange(7.0, requires_grad=True).reshape(shape).bfloat16()

    shown = SamplingExplorer("the", VOCABULARY, bfloat, encode)
    assert shown.logits.tolist() == list(range(7))


def test_errors_are_shown_and_the_text_stays():
    shown = explorer("the cat sat the mat")
    assert ask(shown, kind="append", token=5, draws=1) == ""
    assert ask(shown, kind="append", token=5, draws=2) == (
        "The text has 7 tokens; this model reads at most 6."
    )
    assert (shown.text, shown._draws) == ("the cat sat the mat.", 1)
    assert ask(shown, kind="prompt", text="") == (
        "The prompt has no tokens: type at least one word."
    )
    assert "is not in list" in ask(shown, kind="prompt", text="unknown")
    assert ask(shown, kind="append", token=7, draws=2) == "token 7 is outside the vocabulary of 7"
    assert ask(shown, kind="dance") == "unknown request 'dance'"
    assert shown.text == "the cat sat the mat."
    assert ask(shown, kind="undo") == ""
    assert ask(shown, kind="prompt", text="the mat") == ""
    assert (shown.prompt, shown.text, shown._draws) == ("the mat", "the mat", 0)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros(6), r"must return shape \(7,\), one logit per token .*got \(6,\)"),
        (np.zeros((7, 1)), r"got \(7, 1\)"),
        (np.array([0, 0, 0, 0, 0, 0, np.nan]), "NaN or "),
        (np.array([0, 0, 0, 0, 0, 0, np.inf]), r"\+inf"),
        (np.full(7, -np.inf), "forbid all tokens"),
    ],
)
def test_wrong_logits_are_refused_with_a_reason(logits, message):
    with pytest.raises(ValueError, match=message):
        SamplingExplorer("the", VOCABULARY, lambda ids: logits, encode)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 2.1}, {"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(traitlets.TraitError):
        explorer(**options)


@pytest.mark.parametrize(
    ("piece", "label"),
    [
        (b" cat", "␣cat"),
        (b"\n\n  ", "\\n\\n␣␣"),
        (b"\t", "\\t"),
        (b"\xe2\x80", "\\xe2\\x80"),
        ("é\u00a0\u200b".encode(), "é\\xa0\\u200b"),
        (b"a\xffb", "a\\xffb"),
        (b"", "(empty)"),
    ],
)
def test_labels_make_every_token_visible(piece, label):
    assert token_label(piece) == label


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat\n"] * 9, trainer)
    return tokenizer


def test_byte_level_tokens_become_the_text_again(byte_level):
    size = byte_level.get_vocab_size()
    vocabulary = [byte_level.id_to_token(i) for i in range(size)]
    shown = SamplingExplorer(
        "the cat",
        vocabulary,
        lambda ids: np.zeros(size),
        lambda text: byte_level.encode(text).ids,
        byte_level=True,
    )
    addition = " sat – née 😀 the\n\tend<|endoftext|>"
    for token in byte_level.encode(addition).ids:
        shown.append(token)
    assert shown.text == "the cat" + addition
    labels = [token["label"] for token in shown._payload["tokens"]]
    assert "␣sat" in labels and "\\xe2" in labels and labels[-1] == "<|endoftext|>"
    # A letter appears with the last of its bytes; until then nothing is added.
    texts = [token["text"] for token in shown._payload["tokens"]]
    assert texts[labels.index("\\xe2")] == ""
    assert "–" in texts


def test_text_and_picture_follow_the_settings():
    shown, again = explorer(top_k=3), explorer(top_k=3)
    assert shown.static_text() == again.static_text()
    assert shown.static_png() == again.static_png()
    first, second, third = (
        token_label(VOCABULARY[i].encode()) for i in np.argsort(-shown.logits)[:3]
    )
    assert shown.static_text() == (
        f"SamplingExplorer: after “the cat” the likeliest of 7 tokens are {first}, "
        f"{second}, {third}; temperature 1, top-k 3, top-p off"
    )
    again.top_p = 0.5
    assert shown.static_png() != again.static_png()
    again.top_p = None
    again.append(5)
    assert shown.static_png() != again.static_png()


def test_picture_of_a_large_vocabulary_with_odd_tokens():
    size = 3000
    vocabulary = [f"${i}$" for i in range(size - 2)] + ["\u4e2d", b"\xff"]
    logits = np.linspace(0, 5, size)
    shown = SamplingExplorer("x", vocabulary, lambda ids: logits, lambda text: [0])
    assert len(shown.static_png()) < 60_000
