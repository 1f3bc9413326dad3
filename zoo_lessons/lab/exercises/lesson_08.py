"""Exercises of lesson 08: pooling, a frozen encoder, the F1 of answers, spans, two streams.

The exercises of its further sections stand in `lesson_08_tagging`.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.lesson_08_tagging import TAGGING_EXERCISES
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.layers.two_stream import two_stream_masks
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.question_answering import f1_score, normalise_answer

# --- mean pooling --------------------------------------------------------------------------------


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def _mean_over_padding(hidden, attention_mask):
    return hidden.mean(dim=1)


def _masked_but_full_length(hidden, attention_mask):
    return (hidden * attention_mask[..., None]).mean(dim=1)


def _divided_by_all_tokens(hidden, attention_mask):
    return (hidden * attention_mask[..., None]).sum(dim=1) / attention_mask.sum()


def _first_token(hidden, attention_mask):
    return hidden[:, 0]


def _sum_only(hidden, attention_mask):
    return (hidden * attention_mask[..., None]).sum(dim=1)


def _unit_length(hidden, attention_mask):
    return F.normalize(mean_pool(hidden, attention_mask), dim=-1)


def _pool_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def hidden(*shape: int) -> Tensor:
        return 1 + torch.randn(*shape, generator=generator, dtype=torch.float64)

    padded = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return (
        Case((hidden(3, 5, 4), padded), label="texts of 5, 2 and 3 tokens"),
        Case((hidden(2, 3, 6), torch.ones(2, 3, dtype=torch.long)), label="no padding"),
        Case((hidden(2, 4, 3), torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])), label="a single token"),
    )


# --- find the bug: a frozen encoder --------------------------------------------------------------


def train_head(
    encoder: nn.Module, head: nn.Module, inputs: Tensor, labels: Tensor, lr: float, steps: int
) -> Tensor:
    encoder, head = copy.deepcopy(encoder).eval(), copy.deepcopy(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    with torch.no_grad():
        vectors = encoder(inputs).last_hidden_state[:, 0]
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(head(vectors), labels).backward()
        optimizer.step()
    return head(vectors).detach()


def train_head_wrongly(
    encoder: nn.Module, head: nn.Module, inputs: Tensor, labels: Tensor, lr: float, steps: int
) -> Tensor:
    """What the lesson shows: dropout is on in a frozen encoder."""
    return _trained(encoder, head, inputs, labels, lr, steps, mode=True)


def _trained(
    encoder,
    head,
    inputs,
    labels,
    lr,
    steps,
    *,
    mode=False,
    parameters="head",
    clear=True,
    last=True,
):
    """`train_head` with its plausible faults, and without the shortcut of encoding once."""
    encoder, head = copy.deepcopy(encoder).train(mode), copy.deepcopy(head)
    chosen = {
        "head": [*head.parameters()],
        "both": [*encoder.parameters(), *head.parameters()],
        "encoder": [*encoder.parameters()],
    }[parameters]
    optimizer = torch.optim.SGD(chosen, lr=lr)
    for _ in range(steps):
        logits = head(encoder(inputs).last_hidden_state[:, 0])
        if clear:
            optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    with torch.no_grad():
        return head(encoder(inputs).last_hidden_state[:, 0]) if last else logits.detach()


def _faulty(**fault: Any):
    def answer(encoder, head, inputs, labels, lr, steps):
        return _trained(encoder, head, inputs, labels, lr, steps, **fault)

    return answer


def _eval_at_the_end_only(encoder, head, inputs, labels, lr, steps):
    encoder, head = copy.deepcopy(encoder).train(), copy.deepcopy(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        vectors = encoder(inputs).last_hidden_state[:, 0]
        F.cross_entropy(head(vectors), labels).backward()
        optimizer.step()
    return head(encoder.eval()(inputs).last_hidden_state[:, 0]).detach()


def _head_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)
    encoder = BertModel(
        BertConfig(
            vocab_size=30,
            d_model=16,
            num_layers=2,
            num_heads=2,
            d_ff=32,
            max_length=12,
            dropout=0.3,
        )
    )
    head = nn.Linear(16, 3)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *head.parameters()]:
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def case(label: str, batch: int, length: int, lr: float, steps: int) -> Case:
        inputs = torch.randint(1, 30, (batch, length), generator=generator)
        labels = torch.randint(0, 3, (batch,), generator=generator)
        return Case((encoder, head, inputs, labels, lr, steps), label=label)

    return (
        case("6 texts of 7 tokens, 4 steps", 6, 7, 0.5, 4),
        case("5 texts of 4 tokens, 2 steps", 5, 4, 0.2, 2),
    )


# --- F1 of an answer -----------------------------------------------------------------------------


def answer_f1(predicted: str, right: str) -> float:
    return f1_score(predicted, right)


def _words(text: str) -> list[str]:
    return normalise_answer(text).split()


def _from_counts(common: float, ours: int, theirs: int) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (ours + theirs)


def _f1_of_sets(predicted, right):
    ours, theirs = set(_words(predicted)), set(_words(right))
    return _from_counts(len(ours & theirs), len(ours), len(theirs))


def _f1_without_normalising(predicted, right):
    ours, theirs = predicted.split(), right.split()
    common = (Counter(ours) & Counter(theirs)).total()
    return _from_counts(common, len(ours), len(theirs))


def _precision_only(predicted, right):
    ours, theirs = _words(predicted), _words(right)
    if not ours or not theirs:
        return float(ours == theirs)
    return (Counter(ours) & Counter(theirs)).total() / len(ours)


def _arithmetic_mean(predicted, right):
    ours, theirs = _words(predicted), _words(right)
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return (common / len(ours) + common / len(theirs)) / 2


def _empty_is_zero(predicted, right):
    ours, theirs = _words(predicted), _words(right)
    if not ours or not theirs:
        return 0.0
    return f1_score(predicted, right)


def _place_by_place(predicted, right):
    ours, theirs = _words(predicted), _words(right)
    common = sum(a == b for a, b in zip(ours, theirs, strict=False))
    return _from_counts(common, len(ours), len(theirs))


def _letters(predicted, right):
    ours, theirs = normalise_answer(predicted), normalise_answer(right)
    return _from_counts((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))


_F1_CASES = (
    Case(("The old mill.", "old mill"), label="an article and a full stop"),
    Case(("in the old mill", "old mill"), label="one word too many"),
    Case(("mill", "old mill"), label="one word too few"),
    Case(("Ada sold it", "Nora"), label="nothing in common"),
    Case(("the big big clock", "a big clock tower"), label="a word twice in the answer"),
    Case(("New York, New York", "New York New Jersey"), label="a word twice in both"),
    Case(("", ""), label="both say: no answer"),
    Case(("Tom", ""), label="an answer where there is none"),
    Case(("", "Tom"), label="none where there is an answer"),
)

# --- the best span -------------------------------------------------------------------------------


def choose_span(
    start_logits: Tensor,
    end_logits: Tensor,
    in_passage: Tensor,
    max_tokens: int,
    threshold: float,
) -> tuple[int, int]:
    best, score = (0, 0), start_logits[0] + end_logits[0] + threshold
    positions = range(len(start_logits))
    for i in positions:
        for j in range(i, min(i + max_tokens, len(start_logits))):
            if in_passage[i] and in_passage[j] and start_logits[i] + end_logits[j] > score:
                best, score = (i, j), start_logits[i] + end_logits[j]
    return best


def _span_by(allowed, null=lambda start, end: start[0] + end[0]):
    """Choose among the pairs (i, j) that `allowed(i, j, in_passage, max_tokens)` lets through."""

    def answer(start_logits, end_logits, in_passage, max_tokens, threshold):
        best, score = (0, 0), null(start_logits, end_logits) + threshold
        for i in range(len(start_logits)):
            for j in range(len(start_logits)):
                here = start_logits[i] + end_logits[j]
                if allowed(i, j, in_passage, max_tokens) and here > score:
                    best, score = (i, j), here
        return best

    return answer


def _independent_ends(start_logits, end_logits, in_passage, max_tokens, threshold):
    i = start_logits.masked_fill(~in_passage, -torch.inf).argmax().item()
    j = end_logits.masked_fill(~in_passage, -torch.inf).argmax().item()
    if start_logits[i] + end_logits[j] <= start_logits[0] + end_logits[0] + threshold:
        return 0, 0
    return i, j


def _start_first(start_logits, end_logits, in_passage, max_tokens, threshold):
    i = start_logits.masked_fill(~in_passage, -torch.inf).argmax().item()
    inside = [j for j in range(i, min(i + max_tokens, len(start_logits))) if in_passage[j]]
    j = max(inside, key=lambda place: end_logits[place])
    if start_logits[i] + end_logits[j] <= start_logits[0] + end_logits[0] + threshold:
        return 0, 0
    return i, j


def _never_none(start_logits, end_logits, in_passage, max_tokens, threshold):
    return choose_span(start_logits, end_logits, in_passage, max_tokens, -1e9)


def _threshold_the_other_way(start_logits, end_logits, in_passage, max_tokens, threshold):
    return choose_span(start_logits, end_logits, in_passage, max_tokens, -threshold)


def _span_cases() -> tuple[Case, ...]:
    def case(label, start, end, question, max_tokens=4, threshold=0.0):
        """`question` tokens, [CLS] and [SEP] included, come before the passage and its [SEP]."""
        length = len(start)
        inside = torch.tensor([question <= place < length - 1 for place in range(length)])
        start, end = (torch.tensor(x, dtype=torch.float64) for x in (start, end))
        return Case((start, end, inside, max_tokens, threshold), label=label)

    return (
        case(
            "the best end lies before the best start",
            [0.0, -2, -2, 1.0, 0.5, 5.0, 0.0, -3],
            [0.0, -2, -2, 1.5, 4.0, 1.0, 0.5, -3],
            3,
        ),
        case(
            "a start that is second best has the better end",
            [0.0, -2, -2, 3.0, 0.0, 3.5, 0.0, 0.0, -3],
            [0.0, -2, -2, -1.0, 4.0, -2.0, 0.5, 0.0, -3],
            3,
        ),
        case(
            "the best pair of all is too long",
            [0.0, -2, -2, 4.0, 0.0, 0.2, 0.1, 0.0, 2.0, -3],
            [0.0, -2, -2, 0.5, 0.1, 2.0, 0.3, 3.0, 0.1, -3],
            3,
            max_tokens=3,
        ),
        case(
            "one token too long",
            [0.0, -2, -2, 4.0, 0.0, 0.2, 0.1, 0.0, -3],
            [0.0, -2, -2, 0.5, 0.1, 2.0, 3.0, 0.0, -3],
            3,
            max_tokens=3,
        ),
        case(
            "a word of the question scores highest",
            [0.0, 6.0, -2, 1.0, 2.0, 0.0, -3],
            [0.0, 6.0, -2, 1.0, 2.5, 0.0, -3],
            3,
        ),
        case(
            "[SEP] at the end scores highest",
            [0.0, -2, -2, 1.0, 2.0, 0.0, 5.0],
            [0.0, -2, -2, 1.0, 2.5, 0.0, 5.0],
            3,
        ),
        case(
            "no answer is best",
            [4.0, -2, -2, 1.0, 2.0, 0.0, -3],
            [4.0, -2, -2, 1.0, 2.5, 0.0, -3],
            3,
        ),
        case(
            "[CLS] is a good start and a bad end",
            [4.0, -2, -2, 1.0, 2.0, 0.0, -3],
            [-1.0, -2, -2, 1.0, 1.5, 0.0, -3],
            3,
        ),
        case(
            "a span beats no answer, but not by the threshold",
            [1.0, -2, -2, 1.0, 2.0, 0.0, -3],
            [1.0, -2, -2, 1.0, 2.5, 0.0, -3],
            3,
            threshold=3.0,
        ),
        case(
            "a negative threshold favours answers",
            [3.0, -2, -2, 1.0, 2.0, 0.0, -3],
            [2.5, -2, -2, 1.0, 2.5, 0.0, -3],
            3,
            threshold=-2.0,
        ),
    )


# --- two streams ---------------------------------------------------------------------------------


def stream_masks(order: list[int]) -> tuple[Tensor, Tensor]:
    return two_stream_masks(order)


def _query_sees_itself(order):
    content, _ = two_stream_masks(order)
    return content, content.clone()


def _content_misses_itself(order):
    _, query = two_stream_masks(order)
    return query.clone(), query


def _by_place(order):
    return two_stream_masks(range(len(order)))


def _order_taken_for_turns(order):
    turn = torch.tensor(order)
    return turn[None, :] <= turn[:, None], turn[None, :] < turn[:, None]


def _looking_ahead(order):
    content, query = two_stream_masks(order)
    return content.T.contiguous(), query.T.contiguous()


def _streams_swapped(order):
    content, query = two_stream_masks(order)
    return query, content


_ORDER_CASES = (
    Case(([2, 0, 3, 1],), label="four tokens, order 2 0 3 1"),
    Case(([1, 2, 3, 4, 0],), label="five tokens, the first one last"),
    Case(([0, 1, 2],), label="left to right"),
)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="08.mean_pool",
        title="Mean pooling",
        reference=mean_pool,
        cases=_pool_cases,
        mistakes=(
            Mistake(
                "the mean includes the padding",
                _mean_over_padding,
                "Short texts get a vector that is partly padding, and it changes with the longest "
                "text of the batch. Where does `attention_mask` come in?",
            ),
            Mistake(
                "divided by the padded length",
                _masked_but_full_length,
                "The sum is right, but `mean` divides by the padded length. Divide by the number "
                "of real tokens of each text.",
            ),
            Mistake(
                "divided by the tokens of the whole batch",
                _divided_by_all_tokens,
                "`attention_mask.sum()` counts the tokens of all texts. Each text has its own.",
            ),
            Mistake(
                "the first token instead of the mean",
                _first_token,
                "That is the [CLS] vector. Mean pooling takes all real tokens.",
            ),
            Mistake(
                "summed, not divided",
                _sum_only,
                "This is the sum of the vectors: long texts get long vectors. A mean divides.",
            ),
            Mistake(
                "scaled to length 1",
                _unit_length,
                "Semantic search scales vectors to length 1 afterwards. This function returns the "
                "plain mean.",
            ),
        ),
        praise="A text now has the same vector in any company.",
    ),
    Exercise(
        id="08.frozen_bug",
        title="Find the bug: a frozen encoder that trembles",
        reference=train_head,
        start=train_head_wrongly,
        cases=_head_cases,
        mistakes=(
            Mistake(
                "evaluation mode only at the end",
                _eval_at_the_end_only,
                "The last logits are calm now, but the head was still trained on noisy vectors. "
                "When must dropout be off?",
            ),
            Mistake(
                "the encoder is trained too",
                _faulty(parameters="both"),
                "Print the encoder's weights before and after: they move. The optimizer should "
                "get the head's parameters only.",
            ),
            Mistake(
                "the optimizer got the encoder",
                _faulty(parameters="encoder"),
                "The head never moves. Look at the parameters that the optimizer was given.",
            ),
            Mistake(
                "gradients pile up",
                _faulty(clear=False),
                "`backward` adds to the gradients that are there. Each step needs fresh ones.",
            ),
            Mistake(
                "the logits are one step old",
                _faulty(last=False),
                "You return the logits from before the last update. Compute them again after it.",
            ),
        ),
        praise="A frozen encoder is one whose weights stay put and whose dropout is off.",
    ),
    Exercise(
        id="08.answer_f1",
        title="F1 of an answer",
        reference=answer_f1,
        cases=_F1_CASES,
        mistakes=(
            Mistake(
                "sets instead of bags",
                _f1_of_sets,
                "A set forgets how often a word occurs. Compare two answers that repeat a word.",
            ),
            Mistake(
                "not normalised",
                _f1_without_normalising,
                "'The old mill.' and 'old mill' should be the same. Normalise both first.",
            ),
            Mistake(
                "precision only",
                _precision_only,
                "'mill' instead of 'old mill' got full marks: all its words are right, but one is "
                "missing. That is precision; recall is missing.",
            ),
            Mistake(
                "arithmetic instead of harmonic mean",
                _arithmetic_mean,
                "You averaged precision and recall. F1 is 2PR / (P + R), which is low when either "
                "is low.",
            ),
            Mistake(
                "two empty answers score 0",
                _empty_is_zero,
                "If both say 'no answer', they agree, and the score is 1.",
            ),
            Mistake(
                "compared place by place",
                _place_by_place,
                "One additional word in front shifts all the others. F1 ignores the order.",
            ),
            Mistake(
                "letters instead of words",
                _letters,
                "Counting the characters of a string counts letters. Split it into words first.",
            ),
        ),
    ),
    Exercise(
        id="08.choose_span",
        title="The best span",
        reference=choose_span,
        cases=_span_cases,
        mistakes=(
            Mistake(
                "start and end chosen independently",
                _independent_ends,
                "The best start and the best end need not make a span: the end may come first, or "
                "lie far away. Choose the best *pair*.",
            ),
            Mistake(
                "the start is fixed before the end",
                _start_first,
                "You took the best start, then the best end after it. A start that is second best "
                "may have a much better end. Compare sums over all pairs.",
            ),
            Mistake(
                "the end may lie before the start",
                _span_by(lambda i, j, p, n: p[i] and p[j] and abs(j - i) < n),
                "One of your spans ends before it starts. Which pairs (i, j) are legal?",
            ),
            Mistake(
                "words of the question are allowed",
                _span_by(lambda i, j, p, n: i > 0 and i <= j < i + n),
                "An answer is a piece of the passage. `in_passage` says which tokens belong to it.",
            ),
            Mistake(
                "no limit to the length",
                _span_by(lambda i, j, p, n: p[i] and p[j] and i <= j),
                "The answer may have at most `max_tokens` tokens.",
            ),
            Mistake(
                "one token longer than allowed",
                _span_by(lambda i, j, p, n: p[i] and p[j] and i <= j <= i + n),
                "From i to j, both included, are j - i + 1 tokens. Count the longest one that you "
                "allow.",
            ),
            Mistake(
                "always answers",
                _never_none,
                "If no span beats [CLS], the answer is (0, 0): the passage does not say.",
            ),
            Mistake(
                "[CLS] counts as a start only",
                _span_by(
                    lambda i, j, p, n: p[i] and p[j] and i <= j < i + n,
                    null=lambda start, end: start[0],
                ),
                "'No answer' is the span from [CLS] to [CLS]: its score has two parts, like that "
                "of every other span.",
            ),
            Mistake(
                "the threshold with the wrong sign",
                _threshold_the_other_way,
                "A larger threshold makes the model more cautious: a span must beat [CLS] by more "
                "than that.",
            ),
        ),
    ),
    Exercise(
        id="08.stream_masks",
        title="Two streams",
        reference=stream_masks,
        cases=_ORDER_CASES,
        mistakes=(
            Mistake(
                "the query stream sees its own token",
                _query_sees_itself,
                "The query stream predicts its token. If it sees it, it copies. Look at the "
                "diagonal.",
            ),
            Mistake(
                "the content stream does not see its own token",
                _content_misses_itself,
                "The content stream encodes a token that is known: it sees itself.",
            ),
            Mistake(
                "place instead of order",
                _by_place,
                "This is the causal mask of left to right. 'Before' means earlier in `order`.",
            ),
            Mistake(
                "the order taken for turns",
                _order_taken_for_turns,
                "`order[0]` is the token that comes first. You need the reverse: at which turn "
                "each token comes.",
            ),
            Mistake(
                "looking at later tokens",
                _looking_ahead,
                "Rows are the tokens that look, columns those that are looked at. The token that "
                "comes first in `order` sees the fewest.",
            ),
            Mistake(
                "the two are swapped",
                _streams_swapped,
                "Return the content mask first, then the query mask.",
            ),
        ),
    ),
    *TAGGING_EXERCISES,
)
