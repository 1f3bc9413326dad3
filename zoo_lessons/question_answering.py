"""Extractive question answering: the answer is a span of the passage.

Devlin et al. 2018 (arXiv:1810.04805), sections 4.2 and 4.3: the model reads `[CLS] question [SEP]
passage [SEP]`. One vector scores each token as the start of the answer, another as its end. A span
from i to j scores S_i + E_j; "no answer" is the span of [CLS] alone. Scores of answers follow SQuAD
(Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from zoo_lessons.models.bert import BertForQuestionAnswering

MAX_ANSWER_TOKENS = 15
CLS = 0  # the position of [CLS]


@dataclass
class QuestionBatch:
    """Questions with their passages, as a model reads them.

    Attributes:
        input_ids, attention_mask, token_type_ids: (batch, length); the passage is segment 1.
        in_passage: Boolean (batch, length), True where a token belongs to the passage.
        offsets: (batch, length, 2), the characters of the passage that a token covers.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    in_passage: Tensor
    offsets: Tensor

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the model takes, in its order."""
        return self.input_ids, self.attention_mask, self.token_type_ids


@dataclass
class Spans:
    """The best span of each passage.

    Attributes:
        start, end: token positions (batch,), both inclusive.
        score: start logit + end logit (batch,).
        no_answer: the score of [CLS], which stands for "the passage does not say" (batch,).
    """

    start: Tensor
    end: Tensor
    score: Tensor
    no_answer: Tensor

    @property
    def margin(self) -> Tensor:
        """By how much the span beats "no answer" (batch,)."""
        return self.score - self.no_answer


def encode_questions(
    tokenizer: Tokenizer, questions: Sequence[str], passages: Sequence[str]
) -> QuestionBatch:
    """Questions and their passages as one padded batch.

    Args:
        tokenizer: joins a pair as [CLS] question [SEP] passage [SEP]; it is left as it was.
        questions, passages: equally many texts.

    Raises:
        ValueError: not equally many, or none.
    """
    if len(questions) != len(passages) or not questions:
        raise ValueError(
            f"expected as many passages as questions and at least one, got {len(questions)} "
            f"questions and {len(passages)} passages"
        )
    encodings = tokenizer.encode_batch(list(zip(questions, passages, strict=True)))
    length = max(len(encoding.ids) for encoding in encodings)
    for encoding in encodings:
        encoding.pad(length)  # pads with 0, which is [PAD]
    sequences = [encoding.sequence_ids for encoding in encodings]
    return QuestionBatch(
        torch.tensor([encoding.ids for encoding in encodings]),
        torch.tensor([encoding.attention_mask for encoding in encodings]),
        torch.tensor([encoding.type_ids for encoding in encodings]),
        torch.tensor([[owner == 1 for owner in row] for row in sequences]),
        torch.tensor([encoding.offsets for encoding in encodings]),
    )


def span_positions(
    batch: QuestionBatch, starts: Sequence[int], answers: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """The tokens where answers start and end: two of (batch,), both inclusive.

    Args:
        batch: of `encode_questions`.
        starts: the character of the passage where each answer begins.
        answers: the texts; "" stands for no answer, whose span is [CLS] alone.

    Raises:
        ValueError: an answer that does not lie in its passage's tokens.
    """
    first, last = [], []
    for row, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        if not answer:
            first.append(CLS)
            last.append(CLS)
            continue
        begins, ends = batch.offsets[row].unbind(-1)  # (length,) each
        stop = start + len(answer)
        inside = (batch.in_passage[row] & (begins < stop) & (ends > start)).nonzero().flatten()
        if len(inside) == 0:
            raise ValueError(
                f"answer {answer!r} at character {start} covers no token of passage {row}"
            )
        first.append(int(inside[0]))
        last.append(int(inside[-1]))
    return torch.tensor(first), torch.tensor(last)


def span_loss(
    start_logits: Tensor, end_logits: Tensor, start: Tensor, end: Tensor, attention_mask: Tensor
) -> Tensor:
    """The mean of two cross-entropies, over the positions of start and end (section 4.2).

    Args:
        start_logits, end_logits, attention_mask: (batch, length).
        start, end: the right positions (batch,).
    """
    padding = attention_mask == 0
    start_logits = start_logits.masked_fill(padding, -torch.inf)
    end_logits = end_logits.masked_fill(padding, -torch.inf)
    return (F.cross_entropy(start_logits, start) + F.cross_entropy(end_logits, end)) / 2


def best_spans(
    start_logits: Tensor,
    end_logits: Tensor,
    in_passage: Tensor,
    *,
    max_tokens: int = MAX_ANSWER_TOKENS,
) -> Spans:
    """The best legal span of each passage, and the score of having none.

    Legal: both ends in the passage, the end not before the start, at most `max_tokens` long.

    Args:
        start_logits, end_logits: (batch, length).
        in_passage: Boolean (batch, length).

    Raises:
        ValueError: `max_tokens` < 1, or a row without a passage.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens} must be at least 1")
    if not in_passage.any(dim=1).all():
        raise ValueError("in_passage has a row without any True: no span to choose from")
    length = start_logits.shape[1]
    scores = start_logits[:, :, None] + end_logits[:, None, :]  # (batch, start, end)
    inside = in_passage[:, :, None] & in_passage[:, None, :]
    in_order = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu()
    in_order = in_order & ~in_order.triu(max_tokens)  # (start, end)
    scores = scores.masked_fill(~(inside & in_order), -torch.inf)
    score, place = scores.flatten(1).max(dim=1)
    no_answer = start_logits[:, CLS] + end_logits[:, CLS]
    return Spans(place // length, place % length, score, no_answer)


@dataclass
class Answer:
    """What a model answers.

    Attributes:
        text: a piece of the passage, or "" for "the passage does not say".
        first, last: the characters of the passage that the best span covers (`last` excluded),
            whether it was given as the answer or not.
        margin: by how much the best span beats "no answer".
    """

    text: str
    first: int
    last: int
    margin: float


@torch.no_grad()
def answer_questions(
    model: BertForQuestionAnswering,
    tokenizer: Tokenizer,
    questions: Sequence[str],
    passages: Sequence[str],
    *,
    threshold: float = 0.0,
    max_tokens: int = MAX_ANSWER_TOKENS,
    batch_size: int = 64,
) -> list[Answer]:
    """Answer questions about passages.

    Args:
        model: in evaluation mode.
        threshold: a span is given as the answer if it beats "no answer" by more than this; the
            paper's tau (section 4.3), to be chosen on validation questions.

    Raises:
        ValueError: the model is in training mode, or an argument of the wrong size.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode: dropout would change its answers; call eval()"
        )
    answers = []
    for begin in range(0, len(questions), batch_size):
        texts = passages[begin : begin + batch_size]
        batch = encode_questions(tokenizer, questions[begin : begin + batch_size], texts)
        output = model(*batch.inputs())
        spans = best_spans(
            output.start_logits, output.end_logits, batch.in_passage, max_tokens=max_tokens
        )
        for row, passage in enumerate(texts):
            first = int(batch.offsets[row, spans.start[row], 0])
            last = int(batch.offsets[row, spans.end[row], 1])
            margin = float(spans.margin[row])
            text = passage[first:last] if margin > threshold else ""
            answers.append(Answer(text, first, last, margin))
    return answers


# --- a baseline ----------------------------------------------------------------------------------

LEXICAL_RULES = ("first", "last", "nearest")


def lexical_answer(
    question: str,
    passage: str,
    candidates: Sequence[tuple[int, str]],
    *,
    rule: str = "nearest",
    threshold: float = 0.0,
) -> Answer:
    """Answer without reading: the sentence with the most words of the question, then a candidate.

    A generous baseline, for it is told which pieces of the passage are of the right kind (people,
    if the question asks "who").

    Args:
        candidates: (first character, text) of each piece of the right kind.
        rule: which candidate of the sentence, among those that the question does not name: the
            "first", the "last", or the "nearest" to a word of the question.
        threshold: no answer, unless the share of the question's words that the sentence holds is
            greater than this. The answer's `margin` is that share.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in LEXICAL_RULES:
        raise ValueError(f"rule {rule!r} must be one of {', '.join(LEXICAL_RULES)}")
    asked = _content_words(question)
    best, share = (0, len(passage)), -1.0
    for sentence in re.finditer(r"[^.;]+", passage):
        here = len(asked & _content_words(sentence[0])) / max(len(asked), 1)
        if here > share:
            best, share = sentence.span(), here
    shared = [
        word.start()
        for word in re.finditer(r"\w+", passage)
        if best[0] <= word.start() < best[1] and _stem(word[0]) in asked
    ]
    inside = [
        (start, text)
        for start, text in candidates
        if best[0] <= start < best[1] and not _content_words(text) <= asked
    ]
    if not inside:
        return Answer("", 0, 0, share)
    if rule == "nearest" and shared:
        start, text = min(inside, key=lambda found: min(abs(found[0] - at) for at in shared))
    else:
        start, text = inside[-1 if rule == "last" else 0]
    return Answer(text if share > threshold else "", start, start + len(text), share)


_LITTLE_WORDS = frozenset(
    "a an and at by did do does for from has in is of on the to was where which who whom when "
    "with".split()
)


def _content_words(text: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"\w+", text) if word.lower() not in _LITTLE_WORDS}


def _stem(word: str) -> str:
    """Without the commonest endings, so that "moved" meets "move"."""
    return re.sub(r"(?<=\w{3})(ed|ing|es|s|e)$", "", word.lower())


# --- scores --------------------------------------------------------------------------------------


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous spaces, as in SQuAD."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(predicted: str, right: str) -> float:
    """1.0 if both are the same after normalisation, otherwise 0.0."""
    return float(normalise_answer(predicted) == normalise_answer(right))


def f1_score(predicted: str, right: str) -> float:
    """Overlap of the two as bags of words: 2 P R / (P + R).

    P is the share of predicted words that are right, R the share of right words that were
    predicted; a word counts as often as it occurs in both. If one of the two is empty ("no
    answer"), the score is 1.0 when both are, otherwise 0.0.
    """
    ours, theirs = normalise_answer(predicted).split(), normalise_answer(right).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def best_threshold(
    margins: Sequence[float], scores: Sequence[float], no_answer: Sequence[float]
) -> float:
    """The threshold with the highest mean score.

    Args:
        margins: by how much each best span beats "no answer".
        scores: of each question if the span is given.
        no_answer: of each question if "no answer" is given.

    Raises:
        ValueError: not equally many, or none.
    """
    if not (len(margins) == len(scores) == len(no_answer) > 0):
        raise ValueError(
            f"expected equally many margins, scores and no_answer, got {len(margins)}, "
            f"{len(scores)} and {len(no_answer)}"
        )
    ordered = sorted(margins)
    middles = [(low + high) / 2 for low, high in zip(ordered, ordered[1:], strict=False)]
    candidates = [ordered[0] - 1.0, *middles, ordered[-1] + 1.0]

    def total(threshold: float) -> float:
        rows = zip(margins, scores, no_answer, strict=True)
        return sum(given if margin > threshold else kept for margin, given, kept in rows)

    return max(candidates, key=total)
