"""Exercises of lesson 12: the loss, equal captions, prompt ensembles, recall, where a text ends."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- the symmetric loss --------------------------------------------------------------------------


def symmetric_loss(image_features: Tensor, text_features: Tensor, temperature: float) -> Tensor:
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    logits = images @ texts.T / temperature  # (images, texts)
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _logits(image_features, text_features, temperature):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    return images @ texts.T / temperature


def _both(logits):
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _loss_rows_only(image_features, text_features, temperature):
    logits = _logits(image_features, text_features, temperature)
    return F.cross_entropy(logits, torch.arange(len(logits)))


def _loss_columns_only(image_features, text_features, temperature):
    logits = _logits(image_features, text_features, temperature)
    return F.cross_entropy(logits.T, torch.arange(len(logits)))


def _loss_not_normalised(image_features, text_features, temperature):
    return _both(image_features @ text_features.T / temperature)


def _loss_images_only_normalised(image_features, text_features, temperature):
    return _both(F.normalize(image_features, dim=-1) @ text_features.T / temperature)


def _loss_texts_only_normalised(image_features, text_features, temperature):
    return _both(image_features @ F.normalize(text_features, dim=-1).T / temperature)


def _loss_normalised_over_the_batch(image_features, text_features, temperature):
    images, texts = F.normalize(image_features, dim=0), F.normalize(text_features, dim=0)
    return _both(images @ texts.T / temperature)


def _loss_multiplies(image_features, text_features, temperature):
    return _both(_logits(image_features, text_features, 1.0) * temperature)


def _loss_no_temperature(image_features, text_features, temperature):
    return _both(_logits(image_features, text_features, 1.0))


def _loss_exponential(image_features, text_features, temperature):
    return _both(_logits(image_features, text_features, 1.0) * torch.tensor(temperature).exp())


def _loss_summed_halves(image_features, text_features, temperature):
    return 2 * _both(_logits(image_features, text_features, temperature))


def _loss_summed_rows(image_features, text_features, temperature):
    logits = _logits(image_features, text_features, temperature)
    return _both(logits) * len(logits)


def _loss_minus_cosine(image_features, text_features, temperature):
    return -_logits(image_features, text_features, temperature).diagonal().mean()


def _loss_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(0)

    def case(label: str, batch: int, width: int, temperature: float, long: float = 1.0) -> Case:
        both = torch.randn(2, batch, width, generator=draw, dtype=torch.float64)
        lengths = 0.5 + long * torch.rand(2, batch, 1, generator=draw, dtype=torch.float64)
        images, texts = both * lengths
        return Case((images, texts, temperature), label=label)

    return (
        case("5 pairs of width 7, temperature 0.3", 5, 7, 0.3),
        case("8 pairs, CLIP's first temperature, 0.07", 8, 16, 0.07),
        case("3 pairs with long vectors, temperature 2", 3, 4, 2.0, 6.0),
        case("2 pairs, wider than many", 2, 33, 0.5),
    )


# --- equal captions ------------------------------------------------------------------------------


def soft_targets(captions: list[str]) -> Tensor:
    same = torch.tensor([[float(one == other) for other in captions] for one in captions])
    return same / same.sum(dim=1, keepdim=True)


def _same(captions):
    return torch.tensor([[float(one == other) for other in captions] for one in captions])


def _targets_diagonal(captions):
    return torch.eye(len(captions))


def _targets_not_shared(captions):
    return _same(captions)


def _targets_first_only(captions):
    first = torch.tensor([captions.index(caption) for caption in captions])
    return F.one_hot(first, len(captions)).float()


def _targets_without_itself(captions):
    same = _same(captions) - torch.eye(len(captions))
    return same / same.sum(dim=1, keepdim=True).clamp(min=1)


def _targets_by_batch(captions):
    return _same(captions) / len(captions)


def _targets_softmax(captions):
    return _same(captions).softmax(dim=-1)


def _targets_shared_words(captions):
    words = [set(caption.split()) for caption in captions]
    shared = torch.tensor([[float(len(a & b)) for b in words] for a in words])
    return shared / shared.sum(dim=1, keepdim=True)


def _target_cases() -> tuple[Case, ...]:
    one, two, three = "a red circle", "a blue moon", "a red moon"
    return (
        Case(([one, two, one, three],), label="the first and the third caption are equal"),
        Case(([one, two, three],), label="all captions differ"),
        Case(([two, two, two],), label="all captions are equal"),
        Case(([three, one, three, one, three],), label="three of one caption, two of another"),
    )


# --- prompt ensembles ----------------------------------------------------------------------------


def class_vectors(prompt_embeds: Tensor) -> Tensor:
    return F.normalize(prompt_embeds.mean(dim=1), dim=-1)


def _classes_mean(prompt_embeds):
    return prompt_embeds.mean(dim=1)


def _classes_sum(prompt_embeds):
    return prompt_embeds.sum(dim=1)


def _classes_over_classes(prompt_embeds):
    return F.normalize(prompt_embeds.mean(dim=0), dim=-1)


def _classes_wrong_norm(prompt_embeds):
    return F.normalize(prompt_embeds.mean(dim=1), dim=0)


def _classes_first_prompt(prompt_embeds):
    return prompt_embeds[:, 0]


def _classes_softmax(prompt_embeds):
    return prompt_embeds.mean(dim=1).softmax(dim=-1)


def _class_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(1)

    def case(label: str, classes: int, prompts: int, width: int) -> Case:
        embeds = torch.randn(classes, prompts, width, generator=draw, dtype=torch.float64)
        return Case((F.normalize(embeds, dim=-1),), label=label)

    return (
        case("4 classes with 3 prompts each, width 5", 4, 3, 5),
        case("one prompt for each of 3 classes", 3, 1, 6),
        case("as many prompts as classes", 3, 3, 3),
        case("one class, 7 prompts", 1, 7, 4),
    )


# --- recall at k ---------------------------------------------------------------------------------


def recall_at_k(cosines: Tensor, k: int) -> float:
    best = cosines.topk(k, dim=1).indices  # (queries, k)
    right = torch.arange(len(cosines))[:, None]
    return (best == right).any(dim=1).float().mean().item()


def _recall_columns(cosines, k):
    return recall_at_k(cosines.T, k)


def _recall_smallest(cosines, k):
    return recall_at_k(-cosines, k)


def _recall_one(cosines, k):
    return recall_at_k(cosines, 1)


def _recall_kth_only(cosines, k):
    best = cosines.topk(k, dim=1).indices[:, -1]
    return (best == torch.arange(len(cosines))).float().mean().item()


def _recall_one_too_many(cosines, k):
    return recall_at_k(cosines, min(k + 1, len(cosines)))


def _recall_divided_by_k(cosines, k):
    return recall_at_k(cosines, k) / k


def _recall_count(cosines, k):
    return recall_at_k(cosines, k) * len(cosines)


def _recall_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(2)

    def case(label: str, count: int, k: int, clear: float) -> Case:
        noise = torch.rand(count, count, generator=draw, dtype=torch.float64)
        popular = torch.linspace(0, 0.9, count, dtype=torch.float64)  # some texts win often
        cosines = noise + popular + clear * torch.eye(count, dtype=torch.float64)
        return Case((cosines / cosines.abs().max(), k), label=label)

    return (
        case("12 queries, k = 3", 12, 3, 0.5),
        case("11 queries, k = 1", 11, 1, 0.9),
        case("20 queries, k = 5", 20, 5, 0.2),
        case("as many answers as there are: k = 4 of 4", 4, 4, 0.0),
    )


# --- where a text ends ---------------------------------------------------------------------------


def text_vectors(hidden: Tensor, input_ids: Tensor, eos_token_id: int) -> Tensor:
    ends = (input_ids == eos_token_id).int().argmax(dim=-1)
    return hidden[torch.arange(len(hidden)), ends]


def _vectors_highest_id(hidden, input_ids, eos_token_id):
    """The function to start from: right as long as [EOS] is the last entry of the vocabulary."""
    ends = input_ids.argmax(dim=-1)
    return hidden[torch.arange(len(hidden)), ends]


def _vectors_last_position(hidden, input_ids, eos_token_id):
    return hidden[:, -1]


def _vectors_last_eos(hidden, input_ids, eos_token_id):
    is_eos = (input_ids == eos_token_id).int()
    ends = input_ids.shape[1] - 1 - is_eos.flip(-1).argmax(dim=-1)
    return hidden[torch.arange(len(hidden)), ends]


def _vectors_before_eos(hidden, input_ids, eos_token_id):
    ends = (input_ids == eos_token_id).int().argmax(dim=-1) - 1
    return hidden[torch.arange(len(hidden)), ends]


def _vectors_first_position(hidden, input_ids, eos_token_id):
    return hidden[:, 0]


def _vectors_mean(hidden, input_ids, eos_token_id):
    return hidden.mean(dim=1)


def _vectors_one_end_for_all(hidden, input_ids, eos_token_id):
    return hidden[:, int((input_ids == eos_token_id).int().argmax(dim=-1)[0])]


def _vectors_outer(hidden, input_ids, eos_token_id):
    return hidden[:, (input_ids == eos_token_id).int().argmax(dim=-1)]


def _vector_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(3)

    def case(label: str, ends: list[int], length: int, eos: int, pad: int) -> Case:
        hidden = torch.randn(len(ends), length, 6, generator=draw, dtype=torch.float64)
        ids = torch.randint(4, 30, (len(ends), length), generator=draw)
        for row, end in enumerate(ends):
            ids[row, end] = eos
            ids[row, end + 1 :] = pad
        return Case((hidden, ids, eos), label=label)

    return (
        case("our tokenizer: [EOS] is 2, padding 0", [4, 2, 6], 8, 2, 0),
        case("CLIP's own: [EOS] is the highest id, and the padding, too", [3, 6, 1, 4], 7, 30, 30),
        case("one text, no padding", [5], 6, 2, 0),
        case("[EOS] is 29, the vocabulary goes on", [2, 5], 9, 29, 31),
    )


EXERCISES = (
    Exercise(
        id="12.symmetric_loss",
        title="The symmetric loss",
        reference=symmetric_loss,
        cases=_loss_cases,
        mistakes=(
            Mistake(
                "one-sided: images look for texts only",
                _loss_rows_only,
                "You ask each image for its text. Each text must find its image, too: the same "
                "matrix, read by columns.",
            ),
            Mistake(
                "one-sided: texts look for images only",
                _loss_columns_only,
                "You ask each text for its image. Each image must find its text, too.",
            ),
            Mistake(
                "embeddings not normalised",
                _loss_not_normalised,
                "Your similarities depend on how long the vectors are. Divide each by its length "
                "first, so that the product is a cosine.",
            ),
            Mistake(
                "only the images are normalised",
                _loss_images_only_normalised,
                "The texts' vectors still have their lengths. Both towers end in unit vectors.",
            ),
            Mistake(
                "only the texts are normalised",
                _loss_texts_only_normalised,
                "The images' vectors still have their lengths. Both towers end in unit vectors.",
            ),
            Mistake(
                "normalised over the batch",
                _loss_normalised_over_the_batch,
                "Each vector gets length 1 on its own. Which axis holds the entries of one vector?",
            ),
            Mistake(
                "multiplied by the temperature",
                _loss_multiplies,
                "A low temperature must make the softmax sharper. Yours makes it flatter: divide.",
            ),
            Mistake(
                "no temperature",
                _loss_no_temperature,
                "Cosines lie between -1 and 1, which leaves the softmax almost flat. Where does "
                "the temperature go?",
            ),
            Mistake(
                "multiplied by the exponential of the temperature",
                _loss_exponential,
                "CLIP learns log(1/τ) and takes its exponential. Here you are given τ itself.",
            ),
            Mistake(
                "the halves are added, not averaged",
                _loss_summed_halves,
                "The loss is the mean of its two halves, so yours is twice too large.",
            ),
            Mistake(
                "summed over the batch",
                _loss_summed_rows,
                "Average over the pairs: otherwise a larger batch means a larger loss.",
            ),
            Mistake(
                "no negatives",
                _loss_minus_cosine,
                "You only pull pairs together. All vectors could become equal, and your loss "
                "would be perfect. The softmax brings in the wrong pairs.",
            ),
        ),
    ),
    Exercise(
        id="12.soft_targets",
        title="Targets for equal captions",
        reference=soft_targets,
        cases=_target_cases,
        mistakes=(
            Mistake(
                "only the diagonal",
                _targets_diagonal,
                "That is the plain loss: an equal caption elsewhere in the batch counts as wrong.",
            ),
            Mistake(
                "rows do not sum to 1",
                _targets_not_shared,
                "Cross-entropy compares two distributions. Share each row's target evenly among "
                "its matches.",
            ),
            Mistake(
                "only the first match counts",
                _targets_first_only,
                "`list.index` finds the first of the equal captions. All of them are right.",
            ),
            Mistake(
                "the own caption is left out",
                _targets_without_itself,
                "A caption matches itself, too: the diagonal belongs to the targets.",
            ),
            Mistake(
                "divided by the size of the batch",
                _targets_by_batch,
                "Divide by the number of matches in the row, not by the number of captions.",
            ),
            Mistake(
                "softmax of the matches",
                _targets_softmax,
                "e⁰ is 1: a softmax gives every wrong caption a share as well. Divide by the sum.",
            ),
            Mistake(
                "captions that share words",
                _targets_shared_words,
                "Two captions match when they are equal. A red moon is no red circle.",
            ),
        ),
    ),
    Exercise(
        id="12.class_vectors",
        title="A prompt ensemble",
        reference=class_vectors,
        cases=_class_cases,
        mistakes=(
            Mistake(
                "the mean is not normalised",
                _classes_mean,
                "A mean of unit vectors is shorter than 1, and how much depends on the class. "
                "Classes whose prompts disagree would be at a disadvantage.",
            ),
            Mistake(
                "a sum instead of a unit vector",
                _classes_sum,
                "The vectors need length 1. Then it does not matter whether you summed or "
                "averaged.",
            ),
            Mistake(
                "averaged over the classes",
                _classes_over_classes,
                "The first axis holds the classes. Average over the prompts of one class.",
            ),
            Mistake(
                "length taken over the classes",
                _classes_wrong_norm,
                "Each class vector gets length 1 on its own: its entries lie along the last axis.",
            ),
            Mistake(
                "only the first prompt",
                _classes_first_prompt,
                "All prompts of a class count. With one prompt each there is no ensemble.",
            ),
            Mistake(
                "softmax",
                _classes_softmax,
                "The result is a direction in the shared space, not a distribution.",
            ),
        ),
    ),
    Exercise(
        id="12.recall_at_k",
        title="Recall at k",
        reference=recall_at_k,
        cases=_recall_cases,
        mistakes=(
            Mistake(
                "the other direction",
                _recall_columns,
                "Row i is query i, and its answers lie along the row. You ranked the columns.",
            ),
            Mistake(
                "ranked from the worst",
                _recall_smallest,
                "A larger cosine is a better answer. You took the smallest.",
            ),
            Mistake(
                "only the best answer",
                _recall_one,
                "The right answer may stand anywhere among the best k.",
            ),
            Mistake(
                "only the k-th answer",
                _recall_kth_only,
                "You look at the last of the best k. Any of them may be the right one.",
            ),
            Mistake(
                "one answer too many",
                _recall_one_too_many,
                "You look at k + 1 answers.",
            ),
            Mistake(
                "divided by k",
                _recall_divided_by_k,
                "Each query has a single right answer, found or not. Dividing by k would be "
                "precision.",
            ),
            Mistake(
                "a count, not a share",
                _recall_count,
                "Divide by the number of queries.",
            ),
        ),
    ),
    Exercise(
        id="12.text_end",
        title="Find the bug: where a text ends",
        reference=text_vectors,
        cases=_vector_cases,
        start=_vectors_highest_id,
        mistakes=(
            Mistake(
                "the last position",
                _vectors_last_position,
                "In a padded batch the last position of a short text is padding.",
            ),
            Mistake(
                "the last [EOS]",
                _vectors_last_eos,
                "CLIP's own tokenizer pads with [EOS]. The text ends at the first one.",
            ),
            Mistake(
                "one position before [EOS]",
                _vectors_before_eos,
                "The vector stands at [EOS] itself, which has seen every word.",
            ),
            Mistake(
                "the first position",
                _vectors_first_position,
                "The mask is causal: the first position has seen nothing but itself.",
            ),
            Mistake(
                "the mean over all positions",
                _vectors_mean,
                "CLIP reads one position, and padding would enter your mean.",
            ),
            Mistake(
                "one end for all rows",
                _vectors_one_end_for_all,
                "Texts have different lengths. Each row has an end of its own.",
            ),
            Mistake(
                "every row at every end",
                _vectors_outer,
                "`hidden[:, ends]` picks all ends from each row: (batch, batch, width). Pair row i "
                "with end i by giving an index for both axes.",
            ),
        ),
    ),
)
