"""Translate sentences with a trained Transformer, and translate them back.

Back-translation as augmentation: a sentence goes to another language and returns in other words.
Sources: Sennrich et al. 2016, "Improving Neural Machine Translation Models with Monolingual Data"
(arXiv:1511.06709), who made training data for translators in this way; Edunov et al. 2018,
"Understanding Back-Translation at Scale" (arXiv:1808.09381), who found that sampled words serve
better than the likeliest ones; Xie et al. 2020 (UDA, arXiv:1904.12848), who paraphrased labelled
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from zoo_lessons.checkpoints import load_trained, trained_tokenizer
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, PAD_ID, UNK_ID, encode_batch
from zoo_lessons.models.transformer import Transformer


@dataclass(frozen=True)
class Translator:
    """A model with the word-level tokenizer (`datasets.words`) that it was trained with."""

    model: Transformer
    tokenizer: Tokenizer

    @classmethod
    def load(cls, name: str) -> Translator:
        """A checkpoint: "english_to_french" or "french_to_english".

        Raises:
            FileNotFoundError: there is no such checkpoint.
        """
        return cls(load_trained(name), trained_tokenizer(name))

    @torch.inference_mode()
    def translate(
        self,
        texts: Sequence[str],
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        max_new_tokens: int = 40,
        batch_size: int = 128,
    ) -> list[str]:
        """One translation for each text.

        A word that the tokenizer does not know is read as [UNK]. Where the model writes [UNK], the
        unknown words of the source are put in, in their order (Luong et al. 2015).

        Args:
            texts: sentences.
            temperature: 0 takes the likeliest word at each step; above, words are drawn from the
                model's probabilities, sharpened (below 1) or flattened (above 1).
            generator: of these draws.
            max_new_tokens: the longest translation, in tokens.
            batch_size: texts at a time; texts of like length share a batch.

        Raises:
            TypeError: one string instead of several.
            ValueError: a negative temperature, or a text without a word.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be several strings, got one string: {texts!r}")
        if temperature < 0:
            raise ValueError(f"temperature={temperature} must not be negative")
        lengths = [len(each.ids) for each in self.tokenizer.encode_batch(list(texts))]
        if 0 in lengths:
            raise ValueError(f"text {lengths.index(0)} has no word to translate")
        order = sorted(range(len(texts)), key=lambda row: lengths[row])
        found: dict[int, str] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            some = [texts[row] for row in rows]
            source = encode_batch(self.tokenizer, some, add_eos=True)
            ids = self._write(*source, temperature, generator, max_new_tokens)
            for row, text, written in zip(rows, some, ids.tolist(), strict=True):
                found[row] = self._words(text, written)
        return [found[row] for row in range(len(texts))]

    def _write(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        temperature: float,
        generator: torch.Generator | None,
        max_new_tokens: int,
    ) -> Tensor:
        """Token ids (batch, length) from BOS on; rows that have said EOS go on with padding."""
        model = self.model
        memory = model.encode(input_ids, attention_mask)
        output = input_ids.new_full((len(input_ids), 1), BOS_ID)
        done = torch.zeros(len(input_ids), dtype=torch.bool)
        for _ in range(max_new_tokens):
            hidden = model.decode(output, memory, attention_mask)[:, -1]  # (batch, d_model)
            logits = model.logits(hidden)
            if temperature == 0:
                token = logits.argmax(dim=-1)
            else:
                probabilities = (logits / temperature).softmax(dim=-1)
                token = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            output = torch.cat([output, token.masked_fill(done, PAD_ID)[:, None]], dim=1)
            done |= token == EOS_ID
            if done.all():
                break
        return output

    def _words(self, source: str, ids: Sequence[int]) -> str:
        """The text of written ids, with the source's unknown words at the places of [UNK]."""
        ids = list(ids[1:])
        ids = ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids
        unknown = iter(unknown_words(self.tokenizer, source))
        pieces, run = [], []
        for token in ids:
            if token == UNK_ID:
                pieces += [self.tokenizer.decode(run), next(unknown, "")]
                run = []
            else:
                run.append(token)
        pieces.append(self.tokenizer.decode(run))
        text = " ".join(piece for piece in pieces if piece)
        for mark in "?,":
            text = text.replace(f" {mark}", mark)
        return text.replace("' ", "'")


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text that a word-level tokenizer does not know, in their order."""
    encoding = tokenizer.encode(text)
    return [
        text[start:end].lower()
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if token == UNK_ID
    ]


def back_translate(
    there: Translator,
    back: Translator,
    texts: Sequence[str],
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Each text in other words, by way of another language.

    Args:
        there: from the texts' language to another one.
        back: from that one to the texts' language.
        texts: sentences.
        temperature: of both ways; 0 gives one fixed paraphrase, which is often the text itself.
        generator: of the draws.
    """
    options = {"temperature": temperature, "generator": generator}
    return back.translate(there.translate(texts, **options), **options)
