"""Exercises of lesson 13: who sees whom, the LM loss, negatives, soft targets, re-ranking."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons import image_text_losses
from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- who sees whom -------------------------------------------------------------------------------


def text_mask(attention_mask: Tensor, causal: bool) -> Tensor:
    keys = attention_mask.bool()[:, None, None, :]  # (batch, 1, 1, length)
    length = attention_mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return keys & earlier if causal else keys.expand(-1, 1, length, -1)


def text_mask_faulty(attention_mask: Tensor, causal: bool) -> Tensor:
    """The lesson's "find the bug": padding is hidden as a query, and stays in sight as a key."""
    queries = attention_mask.bool()[:, None, :, None]
    length = attention_mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return queries & earlier if causal else queries.expand(-1, 1, -1, length)


def _mask_always_causal(attention_mask, causal):
    return text_mask(attention_mask, True)


def _mask_never_causal(attention_mask, causal):
    return text_mask(attention_mask, False)


def _mask_causal_the_wrong_way(attention_mask, causal):
    return text_mask(attention_mask, not causal)


def _mask_looks_ahead(attention_mask, causal):
    whole = text_mask(attention_mask, False)
    length = attention_mask.shape[1]
    later = torch.ones(length, length, dtype=torch.bool).triu()
    return whole & later if causal else whole


def _mask_not_itself(attention_mask, causal):
    whole = text_mask(attention_mask, False)
    length = attention_mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril(-1)
    return whole & before if causal else whole


def _mask_without_padding(attention_mask, causal):
    return text_mask(torch.ones_like(attention_mask), causal)


def _mask_inverted(attention_mask, causal):
    return ~text_mask(attention_mask, causal)


def _mask_padding_either_way(attention_mask, causal):
    keys = attention_mask.bool()
    return text_mask(attention_mask, causal) & keys[:, None, :, None]


def _mask_cases() -> tuple[Case, ...]:
    def case(label: str, lengths: list[int], longest: int, causal: bool) -> Case:
        mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
        return Case((mask.long(), causal), label=label)

    return (
        case("reading: three texts, two of them padded", [5, 2, 4], 5, False),
        case("writing: three texts, two of them padded", [5, 2, 4], 5, True),
        case("reading: one text without padding", [4], 4, False),
        case("writing: texts of 1 and 6 tokens", [1, 6], 6, True),
    )


# --- the LM loss ---------------------------------------------------------------------------------


def caption_loss(
    logits: Tensor, input_ids: Tensor, attention_mask: Tensor, label_smoothing: float
) -> Tensor:
    labels = image_text_losses.caption_labels(input_ids, attention_mask)
    return image_text_losses.caption_loss(logits, labels, label_smoothing=label_smoothing)


def _token_losses(logits, targets, label_smoothing):
    """Cross-entropy of each token, (batch, tokens)."""
    log_p = logits.log_softmax(dim=-1)
    right = log_p.gather(-1, targets[..., None])[..., 0]
    return -(1 - label_smoothing) * right - label_smoothing * log_p.mean(dim=-1)


def _mean_where(losses, mask):
    return (losses * mask).sum() / mask.sum()


def _lm_not_shifted(logits, input_ids, attention_mask, label_smoothing):
    return _mean_where(_token_losses(logits, input_ids, label_smoothing), attention_mask)


def _lm_shifted_back(logits, input_ids, attention_mask, label_smoothing):
    losses = _token_losses(logits[:, 1:], input_ids[:, :-1], label_smoothing)
    return _mean_where(losses, attention_mask[:, 1:])


def _shifted(logits, input_ids, label_smoothing):
    return _token_losses(logits[:, :-1], input_ids[:, 1:], label_smoothing)


def _lm_with_padding(logits, input_ids, attention_mask, label_smoothing):
    return _shifted(logits, input_ids, label_smoothing).mean()


def _lm_mask_not_shifted(logits, input_ids, attention_mask, label_smoothing):
    losses = _shifted(logits, input_ids, label_smoothing)
    return _mean_where(losses, attention_mask[:, :-1])


def _lm_zeros_for_padding(logits, input_ids, attention_mask, label_smoothing):
    return (_shifted(logits, input_ids, label_smoothing) * attention_mask[:, 1:]).mean()


def _lm_mean_of_means(logits, input_ids, attention_mask, label_smoothing):
    losses, mask = _shifted(logits, input_ids, label_smoothing), attention_mask[:, 1:]
    return ((losses * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def _lm_sum(logits, input_ids, attention_mask, label_smoothing):
    return (_shifted(logits, input_ids, label_smoothing) * attention_mask[:, 1:]).sum()


def _lm_without_smoothing(logits, input_ids, attention_mask, label_smoothing):
    return _mean_where(_shifted(logits, input_ids, 0.0), attention_mask[:, 1:])


def _lm_smooths_the_others_only(logits, input_ids, attention_mask, label_smoothing):
    log_p = logits[:, :-1].log_softmax(dim=-1)
    right = log_p.gather(-1, input_ids[:, 1:, None])[..., 0]
    others = (log_p.sum(dim=-1) - right) / (logits.shape[-1] - 1)
    losses = -(1 - label_smoothing) * right - label_smoothing * others
    return _mean_where(losses, attention_mask[:, 1:])


def _lm_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, lengths: list[int], longest: int, vocabulary: int, smoothing: float):
        shape = (len(lengths), longest)
        logits = 2 * torch.randn(*shape, vocabulary, generator=generator, dtype=torch.float64)
        ids = torch.randint(0, vocabulary, shape, generator=generator)
        mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
        return Case((logits, ids, mask.long(), smoothing), label=label)

    return (
        case("texts of 6, 3 and 4 tokens, without smoothing", [6, 3, 4], 6, 7, 0.0),
        case("texts of 2 and 7 tokens, smoothing 0.1", [2, 7], 7, 5, 0.1),
        case("one text without padding, smoothing 0.3", [5], 5, 9, 0.3),
    )


# --- hard negatives ------------------------------------------------------------------------------


def negative_weights(logits_per_image: Tensor, same: Tensor) -> Tensor:
    return logits_per_image.masked_fill(same, -math.inf).softmax(dim=1)


def _negatives_with_matches(logits_per_image, same):
    return logits_per_image.softmax(dim=1)


def _negatives_own_text_only(logits_per_image, same):
    return negative_weights(logits_per_image, torch.eye(len(same), dtype=torch.bool))


def _negatives_matches_only(logits_per_image, same):
    return negative_weights(logits_per_image, ~same)


def _negatives_masked_after(logits_per_image, same):
    return logits_per_image.softmax(dim=1).masked_fill(same, 0.0)


def _negatives_masked_with_zero(logits_per_image, same):
    return logits_per_image.masked_fill(same, 0.0).softmax(dim=1)


def _negatives_over_columns(logits_per_image, same):
    return logits_per_image.masked_fill(same, -math.inf).softmax(dim=0)


def _negatives_easiest(logits_per_image, same):
    return negative_weights(-logits_per_image, same)


def _negatives_uniform(logits_per_image, same):
    return negative_weights(torch.zeros_like(logits_per_image), same)


def _negatives_hardest(logits_per_image, same):
    best = logits_per_image.masked_fill(same, -math.inf).argmax(dim=1)
    return F.one_hot(best, len(same)).to(logits_per_image)


def _negative_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, batch: int, scale: float, equal: tuple[tuple[int, int], ...] = ()):
        logits = torch.randn(batch, batch, generator=generator, dtype=torch.float64)
        same = torch.eye(batch, dtype=torch.bool)
        for i, j in equal:
            same[i, j] = same[j, i] = True
        return Case((scale * logits, same), label=label)

    return (
        case("4 pairs, all different", 4, 1.0),
        case("5 pairs, texts 1 and 4 are equal", 5, 2.0, ((1, 4),)),
        case("6 pairs, three equal texts", 6, 0.5, ((0, 2), (0, 5), (2, 5))),
    )


# --- pseudo-labels -------------------------------------------------------------------------------


def soft_targets(same: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
    labels = same / same.sum(dim=1, keepdim=True)
    return image_text_losses.soft_targets(labels.to(teacher_logits), teacher_logits, alpha)


def _mixed(labels, teacher, alpha):
    return (1 - alpha) * labels + alpha * teacher


def _labels(same, like):
    return (same / same.sum(dim=1, keepdim=True)).to(like)


def _soft_alpha_swapped(same, teacher_logits, alpha):
    return soft_targets(same, teacher_logits, 1 - alpha)


def _soft_teacher_only(same, teacher_logits, alpha):
    return teacher_logits.softmax(dim=1)


def _soft_labels_only(same, teacher_logits, alpha):
    return _labels(same, teacher_logits)


def _soft_logits_not_normalised(same, teacher_logits, alpha):
    return _mixed(_labels(same, teacher_logits), teacher_logits, alpha)


def _soft_over_columns(same, teacher_logits, alpha):
    return _mixed(_labels(same, teacher_logits), teacher_logits.softmax(dim=0), alpha)


def _soft_labels_not_normalised(same, teacher_logits, alpha):
    return _mixed(same.to(teacher_logits), teacher_logits.softmax(dim=1), alpha)


def _soft_one_hot(same, teacher_logits, alpha):
    own = torch.eye(len(same)).to(teacher_logits)
    return _mixed(own, teacher_logits.softmax(dim=1), alpha)


def _soft_sum(same, teacher_logits, alpha):
    return _labels(same, teacher_logits) + alpha * teacher_logits.softmax(dim=1)


def _soft_hard_teacher(same, teacher_logits, alpha):
    best = F.one_hot(teacher_logits.argmax(dim=1), len(same)).to(teacher_logits)
    return _mixed(_labels(same, teacher_logits), best, alpha)


def _soft_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, batch: int, alpha: float, equal: tuple[tuple[int, int], ...] = ()):
        logits = 2 * torch.randn(batch, batch, generator=generator, dtype=torch.float64)
        same = torch.eye(batch, dtype=torch.bool)
        for i, j in equal:
            same[i, j] = same[j, i] = True
        return Case((same, logits, alpha), label=label)

    return (
        case("4 pairs, α = 0.4", 4, 0.4),
        case("5 pairs, texts 0 and 3 are equal, α = 0.25", 5, 0.25, ((0, 3),)),
        case("3 pairs, α = 0", 3, 0.0),
        case("6 pairs, α = 0.9", 6, 0.9, ((1, 2),)),
    )


# --- re-ranking ----------------------------------------------------------------------------------


def rerank(cosines: Tensor, match_scores: Tensor, k: int) -> Tensor:
    best = cosines.argsort(descending=True)
    first, rest = best[:k], best[k:]
    return torch.cat([first[match_scores[first].argsort(descending=True)], rest])


def _rerank_by_cosine(cosines, match_scores, k):
    return cosines.argsort(descending=True)


def _rerank_all(cosines, match_scores, k):
    return match_scores.argsort(descending=True)


def _rerank_without_the_rest(cosines, match_scores, k):
    return rerank(cosines, match_scores, k)[:k]


def _rerank_places_not_ids(cosines, match_scores, k):
    best = cosines.argsort(descending=True)
    places = match_scores[best[:k]].argsort(descending=True)
    return torch.cat([places, best[k:]])


def _rerank_wrong_scores(cosines, match_scores, k):
    best = cosines.argsort(descending=True)
    order = match_scores[:k].argsort(descending=True)
    return torch.cat([best[:k][order], best[k:]])


def _rerank_worst_first(cosines, match_scores, k):
    best = cosines.argsort(descending=True)
    return torch.cat([best[:k][match_scores[best[:k]].argsort()], best[k:]])


def _rerank_sum(cosines, match_scores, k):
    best = cosines.argsort(descending=True)
    total = (cosines + match_scores)[best[:k]]
    return torch.cat([best[:k][total.argsort(descending=True)], best[k:]])


def _rerank_least_similar(cosines, match_scores, k):
    return rerank(-cosines, match_scores, k)


def _rerank_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(3)

    def case(label: str, candidates: int, k: int) -> Case:
        cosines = 0.9 * torch.rand(candidates, generator=generator, dtype=torch.float64)
        # Of the size of cosines, so that adding both is no better than either.
        scores = torch.rand(candidates, generator=generator, dtype=torch.float64)
        return Case((cosines, scores, k), label=label)

    return (
        case("9 candidates, the best 4 read closely", 9, 4),
        case("7 candidates, the best 5 read closely", 7, 5),
        case("12 candidates, the best 6 read closely", 12, 6),
    )


EXERCISES = (
    Exercise(
        id="13.text_mask",
        title="Find the bug: who sees whom",
        reference=text_mask,
        start=text_mask_faulty,
        cases=_mask_cases,
        mistakes=(
            Mistake(
                "causal when reading too",
                _mask_always_causal,
                "An encoder reads the whole text at once: without `causal`, the first token sees "
                "the last.",
            ),
            Mistake(
                "never causal",
                _mask_never_causal,
                "When it writes, a token that sees the next one has nothing left to predict.",
            ),
            Mistake(
                "causal and not are swapped",
                _mask_causal_the_wrong_way,
                "Print both masks for one text of three tokens: which of them is a triangle?",
            ),
            Mistake(
                "looks ahead instead of back",
                _mask_looks_ahead,
                "Row i says what token i sees. Row 0 of your causal mask is True everywhere.",
            ),
            Mistake(
                "a token does not see itself",
                _mask_not_itself,
                "Row 0 of your causal mask is False everywhere: the first token sees nothing.",
            ),
            Mistake(
                "padding is not hidden",
                _mask_without_padding,
                "Your mask is the same for all texts of the batch. The short ones have padding.",
            ),
            Mistake(
                "the mask is inverted",
                _mask_inverted,
                "True means that the query may look.",
            ),
            Mistake(
                "padding hidden as query and as key",
                _mask_padding_either_way,
                "What a padded query sees does not matter, since nobody reads its output. A query "
                "that may see nothing at all is a softmax over nothing: hide the keys only.",
            ),
        ),
        praise="One text model becomes encoder or decoder by its mask alone.",
    ),
    Exercise(
        id="13.caption_loss",
        title="The LM loss",
        reference=caption_loss,
        cases=_lm_cases,
        mistakes=(
            Mistake(
                "labels not shifted",
                _lm_not_shifted,
                "Each position is scored on its own token, which it can see. Position t must "
                "predict token t + 1.",
            ),
            Mistake(
                "shifted the wrong way",
                _lm_shifted_back,
                "Your position t predicts token t - 1, which it has already read.",
            ),
            Mistake(
                "padding counts",
                _lm_with_padding,
                "Add padding to one text: your loss changes, though the text is the same.",
            ),
            Mistake(
                "the mask is not shifted with the labels",
                _lm_mask_not_shifted,
                "The mask must say whether the *predicted* token is a real one. Yours counts the "
                "first padding token as a target.",
            ),
            Mistake(
                "padding is a zero in the mean",
                _lm_zeros_for_padding,
                "You set the losses of padding to 0, then divided by all places, padding included.",
            ),
            Mistake(
                "mean of each text's mean",
                _lm_mean_of_means,
                "Here a token of a short text weighs more than one of a long text. Average over "
                "all tokens of the batch at once.",
            ),
            Mistake(
                "sum instead of mean",
                _lm_sum,
                "Twice the batch gives twice your loss.",
            ),
            Mistake(
                "no label smoothing",
                _lm_without_smoothing,
                "`label_smoothing` has no effect on your loss.",
            ),
            Mistake(
                "smoothing leaves out the right token",
                _lm_smooths_the_others_only,
                "The share is spread over the *whole* vocabulary, the right token included: its "
                "target is 1 - ε + ε / vocabulary.",
            ),
        ),
        praise="It is GPT's loss. What is new is that the decoder looks at an image meanwhile.",
    ),
    Exercise(
        id="13.passes",
        title="How many passes?",
        reference=(1, 5),
        mistakes=(
            Mistake(
                "one pass for each loss",
                (1, 3),
                "ITM judges more pairs than those that match: it needs negatives as well.",
            ),
            Mistake(
                "one negative for each pair",
                (1, 4),
                "Each image gets a wrong text *and* each text gets a wrong image.",
            ),
            Mistake(
                "the image is encoded again for each loss",
                (3, 5),
                "The image encoder knows nothing of the text. What it made once serves every loss.",
            ),
            Mistake(
                "the image is encoded for each pass of the text",
                (5, 5),
                "Cross-attention reads what the image encoder made. Nothing has to be encoded "
                "again.",
            ),
            Mistake(
                "negatives counted without the matching pair",
                (1, 2),
                "ITM also judges the pair that matches, and ITC and LM each read the text once.",
            ),
        ),
        praise="The paper says as much: one pass of the image, three of the text, one of them "
        "three times as large.",
    ),
    Exercise(
        id="13.negative_weights",
        title="Hard negatives",
        reference=negative_weights,
        cases=_negative_cases,
        mistakes=(
            Mistake(
                "matching texts can be drawn",
                _negatives_with_matches,
                "The most similar text is most often the image's own. Drawn as a negative, it "
                "teaches that a true caption is false.",
            ),
            Mistake(
                "only the image's own text is left out",
                _negatives_own_text_only,
                "Another image of the batch may have the same caption. `same` says which.",
            ),
            Mistake(
                "only matching texts are drawn",
                _negatives_matches_only,
                "`same` is True where image and text *match*. Those are the ones to leave out.",
            ),
            Mistake(
                "masked after the softmax",
                _negatives_masked_after,
                "Add up a row: it is less than 1.",
            ),
            Mistake(
                "masked with zero",
                _negatives_masked_with_zero,
                "A logit of 0 still gets a share: e⁰ = 1. Which number does the exponential turn "
                "into 0?",
            ),
            Mistake(
                "softmax over the images",
                _negatives_over_columns,
                "Add up a row: it should be 1, since each *image* draws one of the texts.",
            ),
            Mistake(
                "draws the easiest",
                _negatives_easiest,
                "Your likeliest negative is the text that is *least* like the image.",
            ),
            Mistake(
                "all negatives alike",
                _negatives_uniform,
                "Similar texts must be drawn more often: those are the ones to learn from.",
            ),
            Mistake(
                "always the hardest",
                _negatives_hardest,
                "BLIP draws at random, in proportion to the softmax. The hardest of all is too "
                "often a false negative.",
            ),
        ),
        praise="The contrastive loss finds the mistakes that the matching loss then learns from.",
    ),
    Exercise(
        id="13.soft_targets",
        title="Pseudo-labels",
        reference=soft_targets,
        cases=_soft_cases,
        mistakes=(
            Mistake(
                "α weighs the labels",
                _soft_alpha_swapped,
                "With α = 0 the teacher has no say. Yours then has it all.",
            ),
            Mistake(
                "the teacher alone",
                _soft_teacher_only,
                "α has no effect. The labels are worth something, too.",
            ),
            Mistake(
                "the labels alone",
                _soft_labels_only,
                "α has no effect. Where is the teacher?",
            ),
            Mistake(
                "logits instead of probabilities",
                _soft_logits_not_normalised,
                "Your targets can be negative. What turns logits into probabilities?",
            ),
            Mistake(
                "softmax over the images",
                _soft_over_columns,
                "Add up a row: targets of one image must sum to 1 over the texts.",
            ),
            Mistake(
                "two matching texts count twice",
                _soft_labels_not_normalised,
                "An image with two matching texts has a row that sums to more than 1: share the "
                "1 among them.",
            ),
            Mistake(
                "only the image's own text is right",
                _soft_one_hot,
                "`same` may have more than one True in a row.",
            ),
            Mistake(
                "added instead of mixed",
                _soft_sum,
                "Your rows sum to 1 + α.",
            ),
            Mistake(
                "only the teacher's first choice",
                _soft_hard_teacher,
                "The targets are called soft: keep the teacher's doubts.",
            ),
        ),
        praise='A teacher that says "this text fits, too" repairs what the labels call wrong.',
    ),
    Exercise(
        id="13.rerank",
        title="Re-rank the best",
        reference=rerank,
        cases=_rerank_cases,
        mistakes=(
            Mistake(
                "by cosines alone",
                _rerank_by_cosine,
                "`match_scores` has no effect.",
            ),
            Mistake(
                "all candidates read closely",
                _rerank_all,
                "`k` has no effect. Reading every candidate closely is what re-ranking saves.",
            ),
            Mistake(
                "the rest is lost",
                _rerank_without_the_rest,
                "Candidates after the first k keep their order, behind the others.",
            ),
            Mistake(
                "places instead of candidates",
                _rerank_places_not_ids,
                "argsort of k scores gives places 0 to k - 1 among those k. Which candidate "
                "stands at each place?",
            ),
            Mistake(
                "scores of other candidates",
                _rerank_wrong_scores,
                "`match_scores[:k]` are the scores of candidates 0 to k - 1, not of the k best.",
            ),
            Mistake(
                "the worst match first",
                _rerank_worst_first,
                "`argsort` ascends unless told otherwise.",
            ),
            Mistake(
                "both scores added",
                _rerank_sum,
                "The two are on different scales. Among the k best, the match score alone decides.",
            ),
            Mistake(
                "the least similar first",
                _rerank_least_similar,
                "A large cosine means similar.",
            ),
        ),
        praise="A quick comparison narrows the field, a slow one decides: most search works so.",
    ),
)
