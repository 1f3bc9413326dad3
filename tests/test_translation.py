"""Translators: greedy and sampled, unknown words carried across, order kept."""

import pytest
import torch

from zoo_lessons.datasets.words import UNK_ID, encode_batch, word_tokenizer
from zoo_lessons.models.transformer import Transformer, TransformerConfig
from zoo_lessons.translation import Translator, back_translate, unknown_words

SENTENCES = ["the cat sat on the mat", "a dog", "the dog sat on a cat, and the cat sat"]


@pytest.fixture
def translator():
    tokenizer = word_tokenizer(SENTENCES)
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, num_layers=1, num_heads=2, d_ff=32,
        max_length=64, norm="pre",
    )  # fmt: skip
    return Translator(Transformer(config).eval(), tokenizer)


class Echo(Transformer):
    """Writes its source back, token by token: what comes out is known."""

    def encode(self, input_ids, attention_mask=None):
        self.source = input_ids
        return super().encode(input_ids, attention_mask)

    def decode(self, decoder_input_ids, memory, *masks):
        place = min(decoder_input_ids.shape[1] - 1, self.source.shape[1] - 1)
        self.next = self.source[:, place]
        return super().decode(decoder_input_ids, memory, *masks)

    def logits(self, hidden):
        return torch.nn.functional.one_hot(self.next, self.config.vocab_size) * 100.0


@pytest.fixture
def echo(translator):
    return Translator(Echo(translator.model.config).eval(), translator.tokenizer)


def test_greedy_agrees_with_the_models_own_generate(translator):
    ids, mask = encode_batch(translator.tokenizer, SENTENCES[:1], add_eos=True)
    expected = translator.model.generate(ids, mask, max_new_tokens=12)[0].tolist()
    expected = expected[: expected.index(2)] if 2 in expected else expected
    words = [token for token in expected if token > UNK_ID]
    found = translator.translate(SENTENCES[:1], max_new_tokens=12)
    assert found == [translator.tokenizer.decode(words)]


def test_order_and_batches_do_not_matter(translator):
    together = translator.translate(SENTENCES)
    assert together == translator.translate(SENTENCES, batch_size=1)
    assert together[::-1] == translator.translate(SENTENCES[::-1])


def test_unknown_words_are_carried_across_in_their_order(echo):
    text = "the wombat sat on a Yak, and the cat sat"
    assert unknown_words(echo.tokenizer, text) == ["wombat", "yak"]
    assert echo.translate([text, "a dog"]) == [text.lower(), "a dog"]
    assert back_translate(echo, echo, [text], temperature=0.0) == [text.lower()]


def test_sampling_depends_on_its_generator_alone(translator):
    def sampled(seed):
        generator = torch.Generator().manual_seed(seed)
        return translator.translate(SENTENCES, temperature=1.0, generator=generator)

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_errors(translator):
    with pytest.raises(TypeError, match="one string"):
        translator.translate("a dog")
    with pytest.raises(ValueError, match="temperature=-1"):
        translator.translate(["a dog"], temperature=-1)
    with pytest.raises(ValueError, match="text 1 has no word"):
        translator.translate(["a dog", "  "])
