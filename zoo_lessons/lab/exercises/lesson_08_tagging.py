"""Exercises of lesson 08's further sections; `lesson_08` lists them after its own."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.tagging import entities

IGNORE = -100

# --- labels for pieces ---------------------------------------------------------------------------


def align_labels(word_ids: list[int | None], labels: list[int]) -> list[int]:
    aligned, before = [], None
    for word in word_ids:
        is_first = word is not None and word != before
        aligned.append(labels[word] if is_first else IGNORE)
        before = word
    return aligned


def _align_every_piece(word_ids, labels):
    return [IGNORE if word is None else labels[word] for word in word_ids]


def _align_specials_outside(word_ids, labels):
    aligned = align_labels(word_ids, labels)
    return [0 if word is None else label for word, label in zip(word_ids, aligned, strict=True)]


def _align_continuations_outside(word_ids, labels):
    aligned = align_labels(word_ids, labels)
    return [
        0 if word is not None and label == IGNORE else label
        for word, label in zip(word_ids, aligned, strict=True)
    ]


def _align_last_piece(word_ids, labels):
    return align_labels(word_ids[::-1], labels)[::-1]


def _align_by_place(word_ids, labels):
    return [labels[i] if i < len(labels) else IGNORE for i in range(len(word_ids))]


def _align_after_cls(word_ids, labels):
    shifted = [IGNORE, *labels]
    return [shifted[i] if i < len(shifted) else IGNORE for i in range(len(word_ids))]


def _align_firsts_only(word_ids, labels):
    return [label for label in align_labels(word_ids, labels) if label != IGNORE]


def _align_cases() -> tuple[Case, ...]:
    return (
        Case(
            ([None, 0, 1, 1, 1, 2, 3, 3, None], [3, 4, 0, 1]),
            label="two words in several pieces",
        ),
        Case(([None, 0, 0, 1, 1, None, None, None], [1, 2]), label="padding at the end"),
        Case(([None, 0, 1, 2, None], [5, 6, 6]), label="every word is one piece"),
        Case(([None, None], []), label="no words at all"),
    )


# --- log-partition -------------------------------------------------------------------------------


def log_partition(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, mask: Tensor
) -> Tensor:
    scores = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        longer = (scores[:, :, None] + transitions).logsumexp(dim=1) + emissions[:, t]
        scores = torch.where(mask[:, t, None], longer, scores)
    return (scores + end).logsumexp(dim=1)


def _partition_wrong_axis(emissions, transitions, start, end, mask):
    scores = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        longer = (scores[:, :, None] + transitions).logsumexp(dim=2) + emissions[:, t]
        scores = torch.where(mask[:, t, None], longer, scores)
    return (scores + end).logsumexp(dim=1)


def _partition_transposed(emissions, transitions, start, end, mask):
    return log_partition(emissions, transitions.T, start, end, mask)


def _partition_without_start(emissions, transitions, start, end, mask):
    return log_partition(emissions, transitions, torch.zeros_like(start), end, mask)


def _partition_without_end(emissions, transitions, start, end, mask):
    return log_partition(emissions, transitions, start, torch.zeros_like(end), mask)


def _partition_without_mask(emissions, transitions, start, end, mask):
    return log_partition(emissions, transitions, start, end, torch.ones_like(mask))


def _partition_of_the_best(emissions, transitions, start, end, mask):
    scores = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        longer = (scores[:, :, None] + transitions).amax(dim=1) + emissions[:, t]
        scores = torch.where(mask[:, t, None], longer, scores)
    return (scores + end).amax(dim=1)


def _partition_not_in_logs(emissions, transitions, start, end, mask):
    sums = (start + emissions[:, 0]).exp()
    for t in range(1, emissions.shape[1]):
        longer = (sums @ transitions.exp()) * emissions[:, t].exp()
        sums = torch.where(mask[:, t, None], longer, sums)
    return (sums * end.exp()).sum(dim=1).log()


def _partition_without_transitions(emissions, transitions, start, end, mask):
    return log_partition(emissions, torch.zeros_like(transitions), start, end, mask)


def _partition_emissions_twice(emissions, transitions, start, end, mask):
    scores = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        paths = scores[:, :, None] + transitions + emissions[:, t, :, None]  # added to `from`
        scores = torch.where(mask[:, t, None], paths.logsumexp(dim=1), scores)
    return (scores + end).logsumexp(dim=1)


def _partition_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, lengths: list[int], tags: int, scale: float = 1.0) -> Case:
        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        emissions = scale * random(len(lengths), max(lengths), tags)
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return Case((emissions, random(tags, tags), random(tags), random(tags), mask), label=label)

    return (
        case("2 sentences of 5 tokens, 3 tags", [5, 5], 3),
        case("sentences of 6, 3 and 1 tokens, 4 tags", [6, 3, 1], 4),
        case("scores in the hundreds", [7, 4], 3, scale=400.0),
    )


# --- spans from tags -----------------------------------------------------------------------------


def spans(tags: list[str]) -> list[tuple[str, int, int]]:
    return entities(tags)


def _spans_start_at_inside(tags):
    repaired, before = [], "O"
    for tag in tags:
        starts = tag.startswith("I-") and before[2:] != tag[2:]
        repaired.append("B-" + tag[2:] if starts else tag)
        before = tag
    return entities(repaired)


def _spans_merge_neighbours(tags):
    merged, before = [], "O"
    for tag in tags:
        goes_on = tag.startswith("B-") and before[2:] == tag[2:]
        merged.append("I-" + tag[2:] if goes_on else tag)
        before = merged[-1]
    return entities(merged)


def _spans_any_inside(tags):
    found = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((tag[2:], place, place + 1))
        elif tag.startswith("I-") and found and found[-1][2] == place:
            found[-1] = (*found[-1][:2], place + 1)
    return found


def _spans_inclusive(tags):
    return [(name, first, after - 1) for name, first, after in entities(tags)]


def _spans_lose_the_last(tags):
    return [span for span in entities(tags) if span[2] < len(tags)]


def _spans_across_gaps(tags):
    found = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((tag[2:], place, place + 1))
        elif tag.startswith("I-") and found and found[-1][0] == tag[2:]:
            found[-1] = (*found[-1][:2], place + 1)
    return found


def _spans_of_tokens(tags):
    return [(tag[2:], i, i + 1) for i, tag in enumerate(tags) if tag != "O"]


def _spans_cases() -> tuple[Case, ...]:
    def case(label: str, tags: str) -> Case:
        return Case((tags.split(),), label=label)

    return (
        case("two entities with a gap", "B-TITLE I-TITLE I-TITLE O B-VENUE I-VENUE O"),
        case("two entities of one type side by side", "O B-VENUE I-VENUE B-VENUE I-VENUE O"),
        case("an entity at the end", "O O B-TITLE I-TITLE"),
        case("another type goes on", "B-AUTHORS I-AUTHORS I-TITLE I-TITLE O B-TITLE"),
        case("an I- tag after O", "B-TITLE I-TITLE O I-TITLE I-TITLE O"),
        case("nothing", "O O O"),
    )


TAGGING_EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="08.align_labels",
        title="One label for a word in pieces",
        reference=align_labels,
        cases=_align_cases,
        mistakes=(
            Mistake(
                "every piece gets its word's label",
                _align_every_piece,
                "A word in five pieces would count five times, and a B- tag would stand in its "
                "middle. Only the first piece keeps the label.",
            ),
            Mistake(
                "[CLS] and [SEP] get a label",
                _align_specials_outside,
                "They are no words, and nothing should be learned from them. Their `word_ids` are "
                "None; give them -100.",
            ),
            Mistake(
                "later pieces are trained as O",
                _align_continuations_outside,
                "Label 0 is a class like any other: the model would learn that entities break off "
                "inside a word. -100 is left out of the loss.",
            ),
            Mistake(
                "the last piece carries the label",
                _align_last_piece,
                "BERT's paper takes the first piece of each word, and so does the rest of the "
                "lesson. Which piece does your comparison with the neighbour find?",
            ),
            Mistake(
                "labels run on as if each piece were a word",
                _align_by_place,
                "`labels` has one entry per word, `word_ids` one per piece. Use `word_ids` to look "
                "up the label; do not count along.",
            ),
            Mistake(
                "labels are only shifted behind [CLS]",
                _align_after_cls,
                "That works as long as every word is one piece. After the first word in two "
                "pieces, all labels are one place too early.",
            ),
            Mistake(
                "the ignored places are dropped",
                _align_firsts_only,
                "The result needs one entry per piece, so that it lines up with the logits. "
                "Compare `len(word_ids)` with the length of your list.",
            ),
        ),
    ),
    Exercise(
        id="08.log_partition",
        title="The log-partition of a CRF",
        reference=log_partition,
        cases=_partition_cases,
        mistakes=(
            Mistake(
                "summed over the wrong axis",
                _partition_wrong_axis,
                "`scores[:, :, None] + transitions` has the axes (batch, from, to). What is left "
                "after the sum must be one number for each tag that the step arrives at.",
            ),
            Mistake(
                "transitions read as (to, from)",
                _partition_transposed,
                "`transitions[i, j]` is the score of going from tag i to tag j. Which axis of your "
                "sum of scores and transitions belongs to the earlier tag?",
            ),
            Mistake(
                "the start scores are missing",
                _partition_without_start,
                "The first tag has a score for coming first. Where does `start` come in?",
            ),
            Mistake(
                "the end scores are missing",
                _partition_without_end,
                "The last tag has a score for coming last. Add `end` before the last sum.",
            ),
            Mistake(
                "padding is counted as tokens",
                _partition_without_mask,
                "A short sentence gets another result when it is padded. Where the mask is False, "
                "keep the scores of the step before: `torch.where`.",
            ),
            Mistake(
                "the best path instead of the sum over all",
                _partition_of_the_best,
                "A maximum over the paths is Viterbi's algorithm. The log-partition adds up the "
                "exponentials of all paths: `logsumexp`.",
            ),
            Mistake(
                "the exponentials overflow",
                _partition_not_in_logs,
                "The formula is right, but exp(800) is too large for a float64. Stay in logarithms "
                "and use `logsumexp` at each step.",
            ),
            Mistake(
                "tags are independent of their neighbours",
                _partition_without_transitions,
                "Without transitions this is a softmax for each token. Each step must add "
                "`transitions` before it sums over the earlier tag.",
            ),
            Mistake(
                "emissions added to the tag before",
                _partition_emissions_twice,
                "`emissions[:, t]` belongs to the tags at token t, the `to` axis. Add it after the "
                "sum over `from`.",
            ),
        ),
        praise="Length · tags² steps for a sum of tags^length terms.",
    ),
    Exercise(
        id="08.entity_spans",
        title="From tags to entities",
        reference=spans,
        cases=_spans_cases,
        mistakes=(
            Mistake(
                "an I- tag starts an entity",
                _spans_start_at_inside,
                "Only B- starts one. An I- tag that continues nothing is illegal; a tagger that "
                "writes it should not be paid for it.",
            ),
            Mistake(
                "neighbours of one type are merged",
                _spans_merge_neighbours,
                "A B- tag always starts a new entity, even right behind another of its type. That "
                "is what B- is for.",
            ),
            Mistake(
                "an I- tag of another type goes on",
                _spans_any_inside,
                "I-TITLE cannot continue an AUTHORS entity. Compare the types, not only the "
                "prefix.",
            ),
            Mistake(
                "the end is the last word itself",
                _spans_inclusive,
                "The third number is the word *after* the last, so that `words[first:after]` gives "
                "the entity.",
            ),
            Mistake(
                "an entity at the end of the sentence is lost",
                _spans_lose_the_last,
                "No O follows the last word. Where does your loop write the entity that is still "
                "open?",
            ),
            Mistake(
                "an entity goes on behind a gap",
                _spans_across_gaps,
                "Once an O has come, the entity is over: an I- tag must follow its entity "
                "directly.",
            ),
            Mistake(
                "every tagged word is an entity",
                _spans_of_tokens,
                "B- and the I- tags behind it are one entity. You counted words.",
            ),
        ),
    ),
)
