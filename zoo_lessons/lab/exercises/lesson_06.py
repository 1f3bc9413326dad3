"""Exercises of lesson 06: the loss, perplexity, temperature, top-p, a beam step, a cache's bug."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.models.gpt import GPT, GPTConfig

EOS = 0  # of the beam exercise

# --- the loss ------------------------------------------------------------------------------------


def next_token_loss(logits: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    real = attention_mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][real], input_ids[:, 1:][real])


def _loss_unshifted(logits, input_ids, attention_mask):
    real = attention_mask.bool()
    return F.cross_entropy(logits[real], input_ids[real])


def _loss_wrong_way(logits, input_ids, attention_mask):
    real = attention_mask[:, :-1].bool()
    return F.cross_entropy(logits[:, 1:][real], input_ids[:, :-1][real])


def _loss_over_padding(logits, input_ids, attention_mask):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())


def _loss_mask_of_the_input(logits, input_ids, attention_mask):
    real = attention_mask[:, :-1].bool()
    return F.cross_entropy(logits[:, :-1][real], input_ids[:, 1:][real])


def _loss_padding_as_zero(logits, input_ids, attention_mask):
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    return (losses * attention_mask[:, 1:]).mean()


def _loss_summed(logits, input_ids, attention_mask):
    real = attention_mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][real], input_ids[:, 1:][real], reduction="sum")


def _loss_mean_of_texts(logits, input_ids, attention_mask):
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    mask = attention_mask[:, 1:]
    return ((losses * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def _loss_wraps(logits, input_ids, attention_mask):
    real = attention_mask.bool()
    return F.cross_entropy(logits[real], input_ids.roll(-1, dims=1)[real])


def _loss_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, lengths: list[int], vocabulary: int, scale: float) -> Case:
        batch, longest = len(lengths), max(lengths)
        logits = torch.randn(batch, longest, vocabulary, generator=generator, dtype=torch.float64)
        ids = torch.randint(1, vocabulary, (batch, longest), generator=generator)
        mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
        return Case((scale * logits, ids * mask, mask), label=label)

    return (
        case("texts of 7, 4 and 2 tokens", [7, 4, 2], 11, 2.0),
        case("no padding", [5, 5], 6, 1.0),
        case("one text of two tokens: a single target", [2], 5, 3.0),
        case("confident logits", [3, 6, 5, 6], 9, 8.0),
    )


# --- perplexity ----------------------------------------------------------------------------------


def perplexity(batches: list[tuple[Tensor, Tensor]]) -> float:
    total = sum((losses * mask).sum().item() for losses, mask in batches)
    tokens = sum(mask.sum().item() for _, mask in batches)
    return math.exp(total / tokens)


def _perplexity_mean_of_batches(batches):
    means = [((losses * mask).sum() / mask.sum()).item() for losses, mask in batches]
    return math.exp(sum(means) / len(means))


def _perplexity_mean_of_perplexities(batches):
    means = [((losses * mask).sum() / mask.sum()).item() for losses, mask in batches]
    return sum(math.exp(mean) for mean in means) / len(means)


def _perplexity_over_padding(batches):
    total = sum(losses.sum().item() for losses, _ in batches)
    return math.exp(total / sum(losses.numel() for losses, _ in batches))


def _perplexity_padding_as_zero(batches):
    total = sum((losses * mask).sum().item() for losses, mask in batches)
    return math.exp(total / sum(losses.numel() for losses, _ in batches))


def _perplexity_base_2(batches):
    total = sum((losses * mask).sum().item() for losses, mask in batches)
    return 2 ** (total / sum(mask.sum().item() for _, mask in batches))


def _perplexity_without_exp(batches):
    total = sum((losses * mask).sum().item() for losses, mask in batches)
    return total / sum(mask.sum().item() for _, mask in batches)


def _perplexity_exp_of_each(batches):
    total = sum((losses.exp() * mask).sum().item() for losses, mask in batches)
    return total / sum(mask.sum().item() for _, mask in batches)


def _perplexity_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def batch(lengths: list[int], scale: float) -> tuple[Tensor, Tensor]:
        longest = max(lengths)
        losses = torch.rand(len(lengths), longest, generator=generator, dtype=torch.float64)
        mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
        return losses * scale, mask

    return (
        Case(([batch([6, 3, 1], 3.0), batch([2], 9.0)],), label="a large batch, then a small one"),
        Case(([batch([4, 4], 2.0)],), label="one batch without padding"),
        Case(([batch([1], 5.0), batch([5, 2], 1.0), batch([3], 4.0)],), label="three batches"),
    )


# --- temperature ---------------------------------------------------------------------------------


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


def _temperature_multiplies(logits, temperature):
    if temperature == 0:
        return with_temperature(logits, 0)
    return (logits * temperature).softmax(dim=-1)


def _temperature_after_softmax(logits, temperature):
    if temperature == 0:
        return with_temperature(logits, 0)
    scaled = logits.softmax(dim=-1) / temperature
    return scaled / scaled.sum(dim=-1, keepdim=True)


def _temperature_not_renormalised(logits, temperature):
    if temperature == 0:
        return with_temperature(logits, 0)
    return logits.softmax(dim=-1) / temperature


def _temperature_zero_divides(logits, temperature):
    return (logits / temperature).softmax(dim=-1)


def _temperature_zero_means_one(logits, temperature):
    return (logits / (temperature or 1.0)).softmax(dim=-1)


def _temperature_over_the_batch(logits, temperature):
    if temperature == 0:
        return with_temperature(logits, 0)
    return (logits / temperature).softmax(dim=0)


def _temperature_one_for_all(logits, temperature):
    if temperature == 0:
        return (logits == logits.max()).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


def _temperature_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def logits(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        Case((logits(3, 5), 0.7), label="3 texts, temperature 0.7"),
        Case((logits(2, 4), 2.0), label="2 texts, temperature 2"),
        Case((logits(3, 6), 0.0), label="temperature 0: all probability on the likeliest token"),
        Case((logits(1, 7), 1.0), label="temperature 1"),
    )


# --- top-p ---------------------------------------------------------------------------------------


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # what likelier tokens have together
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)


def _top_p_drops_crossing(logits, p):
    ordered, order = logits.sort(dim=-1, descending=True)
    above = ordered.softmax(dim=-1).cumsum(dim=-1) > p
    dropped = torch.zeros_like(above).scatter(-1, order, above)
    return logits.masked_fill(dropped, -math.inf)


def _top_p_ascending(logits, p):
    ordered, order = logits.sort(dim=-1)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)


def _top_p_unsorted(logits, p):
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, -math.inf)


def _top_p_not_scattered_back(logits, p):
    ordered, _ = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    return logits.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, -math.inf)


def _top_p_returns_sorted(logits, p):
    ordered, _ = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    return ordered.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, -math.inf)


def _top_p_by_each_probability(logits, p):
    return logits.masked_fill(logits.softmax(dim=-1) < p, -math.inf)


def _top_p_zero_logits(logits, p):
    kept = keep_top_p(logits, p)
    return kept.masked_fill(kept == -math.inf, 0.0)


def _top_p_sums_logits(logits, p):
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)


def _top_p_probabilities(logits, p):
    return keep_top_p(logits, p).softmax(dim=-1)


def _top_p_cases() -> tuple[Case, ...]:
    # Logarithms of probabilities, so that one can see which token crosses p.
    rows = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.05, 0.05, 0.85, 0.05]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    wide = 2 * torch.randn(3, 9, generator=generator, dtype=torch.float64)
    return (
        Case(
            (rows.log(), 0.75), label="p = 0.75 for (0.1, 0.4, 0.2, 0.3) and (.05, .05, .85, .05)"
        ),
        Case((rows.log(), 0.35), label="p = 0.35: the likeliest token alone crosses it"),
        Case((wide, 0.8), label="3 texts, 9 tokens, p = 0.8"),
        Case((wide[:, :5] + 3, 1.0), label="p = 1 keeps all"),
    )


# --- a beam step ---------------------------------------------------------------------------------

Beam = tuple[tuple[int, ...], float]


def beam_step(
    beams: list[Beam], log_probabilities: Callable[[tuple[int, ...]], Tensor], num_beams: int
) -> list[Beam]:
    candidates = []
    for tokens, score in beams:
        if tokens[-1] == EOS:
            candidates.append((tokens, score))
            continue
        for token, value in enumerate(log_probabilities(tokens).tolist()):
            candidates.append(((*tokens, token), score + value))
    return _best(candidates, num_beams)


def _best(candidates: list[Beam], num_beams: int) -> list[Beam]:
    return sorted(candidates, key=lambda beam: beam[1], reverse=True)[:num_beams]


def _extended(beams, log_probabilities, join) -> list[Beam]:
    """Finished beams as they are, the others with each token; `join` makes the new score."""
    candidates = [beam for beam in beams if beam[0][-1] == EOS]
    for tokens, score in beams:
        if tokens[-1] != EOS:
            for token, value in enumerate(log_probabilities(tokens).tolist()):
                candidates.append(((*tokens, token), join(score, value)))
    return candidates


def _beam_forgets_finished(beams, log_probabilities, num_beams):
    going_on = [beam for beam in beams if beam[0][-1] != EOS]
    return _best(_extended(going_on, log_probabilities, lambda a, b: a + b), num_beams)


def _beam_continues_finished(beams, log_probabilities, num_beams):
    return _best(
        [
            ((*tokens, token), score + value)
            for tokens, score in beams
            for token, value in enumerate(log_probabilities(tokens).tolist())
        ],
        num_beams,
    )


def _beam_multiplies_logs(beams, log_probabilities, num_beams):
    return _best(_extended(beams, log_probabilities, lambda a, b: a * b), num_beams)


def _beam_adds_probabilities(beams, log_probabilities, num_beams):
    return _best(_extended(beams, log_probabilities, lambda a, b: a + math.exp(b)), num_beams)


def _beam_last_token_only(beams, log_probabilities, num_beams):
    return _best(_extended(beams, log_probabilities, lambda a, b: b), num_beams)


def _beam_no_competition(beams, log_probabilities, num_beams):
    best = []
    for tokens, score in beams:
        if tokens[-1] != EOS:
            value, token = log_probabilities(tokens).max(dim=-1)
            tokens, score = (*tokens, token.item()), score + value.item()
        best.append((tokens, score))
    return _best(best, num_beams)


def _beam_keeps_worst(beams, log_probabilities, num_beams):
    candidates = _extended(beams, log_probabilities, lambda a, b: a + b)
    return sorted(candidates, key=lambda beam: beam[1])[:num_beams]


def _beam_keeps_all(beams, log_probabilities, num_beams):
    candidates = _extended(beams, log_probabilities, lambda a, b: a + b)
    return _best(candidates, len(candidates))


def _beam_mean_score(beams, log_probabilities, num_beams):
    candidates = _extended(beams, log_probabilities, lambda a, b: a + b)
    return _best([(tokens, score / len(tokens)) for tokens, score in candidates], num_beams)


class LastTokenModel:
    """Log-probabilities of the next token that depend on the last one only."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(vocabulary, vocabulary, generator=generator, dtype=torch.float64)
        self.table = (1.5 * table).log_softmax(dim=-1)

    def __call__(self, tokens: tuple[int, ...]) -> Tensor:
        return self.table[tokens[-1]]  # (vocabulary,)


def _beam_cases() -> tuple[Case, ...]:
    first, second = LastTokenModel(5, seed=4), LastTokenModel(4, seed=5)
    return (
        Case(([((3,), 0.0)], first, 3), label="the first step: one beam becomes three"),
        Case(
            ([((3, 1), -0.9), ((3, 4), -1.1), ((3, 2), -1.4)], first, 3),
            label="three beams, none finished",
        ),
        Case(
            ([((2, 1, EOS), -1.0), ((2, 3, 1), -1.2)], second, 2),
            label="one beam of two is finished and stays the best",
        ),
        Case(
            ([((1, 2), -0.4), ((1, 3, EOS), -6.0)], second, 2),
            label="one beam of two is finished and is overtaken",
        ),
    )


# --- find the bug --------------------------------------------------------------------------------


def _with_cache(model, prompt_ids: Tensor, new_ids: Tensor, position: Callable) -> Tensor:
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        position_ids = torch.full((len(new_ids), 1), position(cache.length, step))
        output = model(new_ids[:, step : step + 1], position_ids=position_ids, cache=cache)
        logits.append(output.logits[:, -1])
    return torch.stack(logits, dim=1)


def logits_with_cache(model: GPT, prompt_ids: Tensor, new_ids: Tensor) -> Tensor:
    return _with_cache(model, prompt_ids, new_ids, lambda cached, step: cached)


def late_logits_with_cache(model, prompt_ids, new_ids):
    return _with_cache(model, prompt_ids, new_ids, lambda cached, step: cached + 1)


def _cache_one_early(model, prompt_ids, new_ids):
    return _with_cache(model, prompt_ids, new_ids, lambda cached, step: cached - 1)


def _cache_position_zero(model, prompt_ids, new_ids):
    return _with_cache(model, prompt_ids, new_ids, lambda cached, step: 0)


def _cache_counts_new_tokens(model, prompt_ids, new_ids):
    return _with_cache(model, prompt_ids, new_ids, lambda cached, step: step)


def _cache_emptied(model, prompt_ids, new_ids):
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        position_ids = torch.full((len(new_ids), 1), prompt_ids.shape[1] + step)
        cache = KeyValueCache(model.config.num_layers)
        output = model(new_ids[:, step : step + 1], position_ids=position_ids, cache=cache)
        logits.append(output.logits[:, -1])
    return torch.stack(logits, dim=1)


def _cache_read_again(model, prompt_ids, new_ids):
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        seen = torch.cat([prompt_ids, new_ids[:, : step + 1]], dim=1)
        position_ids = torch.arange(seen.shape[1]).expand_as(seen)
        logits.append(model(seen, position_ids=position_ids, cache=cache).logits[:, -1])
    return torch.stack(logits, dim=1)


def _cache_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(6)
    config = GPTConfig(
        vocab_size=13, d_model=16, num_layers=2, num_heads=4, d_ff=32, max_length=32, dropout=0.0
    )
    model = GPT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def case(label: str, batch: int, prompt: int, new: int) -> Case:
        ids = torch.randint(13, (batch, prompt + new), generator=generator)
        return Case((model, ids[:, :prompt], ids[:, prompt:]), label=label)

    return (
        case("2 prompts of 5 tokens, 4 new ones", 2, 5, 4),
        case("a prompt of one token", 1, 1, 3),
        case("no new token", 3, 4, 0),
    )


EXERCISES = (
    Exercise(
        id="06.next_token_loss",
        title="The loss of a language model",
        reference=next_token_loss,
        cases=_loss_cases,
        mistakes=(
            Mistake(
                "no shift",
                _loss_unshifted,
                "Your targets are the tokens that the model has just read. It would learn to copy. "
                "The logits at position t are about token t + 1.",
            ),
            Mistake(
                "shifted the wrong way",
                _loss_wrong_way,
                "You compare the logits at position t with token t - 1, which lies in the past.",
            ),
            Mistake(
                "padding counts as a target",
                _loss_over_padding,
                "Where `attention_mask` is 0 there is no token to predict. Leave these positions "
                "out of the mean.",
            ),
            Mistake(
                "the mask is not shifted with the targets",
                _loss_mask_of_the_input,
                "The mask must belong to the *target*: the last real token of a text would "
                "otherwise be trained to predict padding.",
            ),
            Mistake(
                "divided by all positions, padding too",
                _loss_padding_as_zero,
                "Padding adds nothing to your sum, but it still counts in the division. Divide by "
                "the number of real targets.",
            ),
            Mistake(
                "sum instead of mean",
                _loss_summed,
                "The loss is the mean per token. With a sum, a longer text would pull harder.",
            ),
            Mistake(
                "mean of the texts' means",
                _loss_mean_of_texts,
                "Each token counts the same. In your mean a token of a short text counts more.",
            ),
            Mistake(
                "the text wraps around",
                _loss_wraps,
                "`roll` makes the first token the target of the last one. Cut one column off each "
                "instead.",
            ),
        ),
    ),
    Exercise(
        id="06.perplexity",
        title="Perplexity of a test set",
        reference=perplexity,
        cases=_perplexity_cases,
        mistakes=(
            Mistake(
                "mean of the batches' means",
                _perplexity_mean_of_batches,
                "The batches hold different numbers of tokens. Add up all losses and all tokens "
                "first, then divide once.",
            ),
            Mistake(
                "mean of the batches' perplexities",
                _perplexity_mean_of_perplexities,
                "Take the exponential last. A mean of exponentials is larger than the exponential "
                "of the mean.",
            ),
            Mistake(
                "padding counts",
                _perplexity_over_padding,
                "`losses` holds numbers at padded places too. They mean nothing: the mask says "
                "which ones count.",
            ),
            Mistake(
                "padding counts in the division",
                _perplexity_padding_as_zero,
                "Divide by the number of real tokens, which is the sum of the mask, not its size.",
            ),
            Mistake(
                "2 to the power of nats",
                _perplexity_base_2,
                "The losses use the natural logarithm, so the way back is e to their mean. 2 would "
                "belong to losses in bits.",
            ),
            Mistake(
                "no exponential",
                _perplexity_without_exp,
                "That is the mean loss. Perplexity is its exponential.",
            ),
            Mistake(
                "exponential of each token",
                _perplexity_exp_of_each,
                "First the mean over all tokens, then one exponential. One very surprising token "
                "would rule your mean.",
            ),
        ),
    ),
    Exercise(
        id="06.temperature",
        title="Temperature",
        reference=with_temperature,
        cases=_temperature_cases,
        mistakes=(
            Mistake(
                "multiplied instead of divided",
                _temperature_multiplies,
                "A high temperature should make the choice more even. Yours makes it sharper.",
            ),
            Mistake(
                "temperature after the softmax",
                _temperature_after_softmax,
                "All probabilities divided by the same number keep their proportions: temperature "
                "then changes nothing. It belongs before the softmax.",
            ),
            Mistake(
                "probabilities divided",
                _temperature_not_renormalised,
                "Your probabilities no longer sum to 1. Divide the logits instead.",
            ),
            Mistake(
                "temperature 0 divides by zero",
                _temperature_zero_divides,
                "Treat 0 as a case of its own: in the limit the likeliest token takes all.",
            ),
            Mistake(
                "temperature 0 taken for 1",
                _temperature_zero_means_one,
                "0 is falsy in Python, so `temperature or 1.0` is 1.0. As temperature falls to 0, "
                "the likeliest token takes everything.",
            ),
            Mistake(
                "softmax over the batch",
                _temperature_over_the_batch,
                "The tokens of one text compete with each other, and texts do not. Which axis "
                "holds the tokens?",
            ),
            Mistake(
                "one likeliest token for the whole batch",
                _temperature_one_for_all,
                "At temperature 0 every text has a likeliest token of its own: `argmax` needs the "
                "axis of the tokens.",
            ),
        ),
    ),
    Exercise(
        id="06.top_p",
        title="Top-p",
        reference=keep_top_p,
        cases=_top_p_cases,
        mistakes=(
            Mistake(
                "the token that crosses p is dropped",
                _top_p_drops_crossing,
                "Add tokens *until* the sum reaches p: the token that reaches it stays. With one "
                "very likely token you would drop everything.",
            ),
            Mistake(
                "sorted from the least likely",
                _top_p_ascending,
                "Your sum starts with the least likely tokens. Sort in descending order.",
            ),
            Mistake(
                "not sorted",
                _top_p_unsorted,
                "You add up probabilities in the order of the vocabulary. Sort them first.",
            ),
            Mistake(
                "the mask stays in sorted order",
                _top_p_not_scattered_back,
                "Your mask says which *ranks* to drop. Bring it back to the order of the "
                "vocabulary, for example with `scatter`.",
            ),
            Mistake(
                "the result stays in sorted order",
                _top_p_returns_sorted,
                "Position i of the result must still be about token i of the vocabulary.",
            ),
            Mistake(
                "each probability is compared with p",
                _top_p_by_each_probability,
                "p is a limit for the *sum* of the likeliest tokens, not for one token.",
            ),
            Mistake(
                "dropped tokens get the logit 0",
                _top_p_zero_logits,
                "A logit of 0 still has probability: e⁰ is 1. To give a token none, its logit must "
                "be -inf.",
            ),
            Mistake(
                "logits are added up",
                _top_p_sums_logits,
                "p is about probabilities. Take the softmax before the sum.",
            ),
            Mistake(
                "probabilities are returned",
                _top_p_probabilities,
                "Return logits, as the function's description says. The softmax comes later.",
            ),
        ),
    ),
    Exercise(
        id="06.beam_step",
        title="One step of beam search",
        reference=beam_step,
        cases=_beam_cases,
        mistakes=(
            Mistake(
                "finished beams are forgotten",
                _beam_forgets_finished,
                "A text that has reached the end token is still a candidate. It competes with its "
                "score as it is.",
            ),
            Mistake(
                "finished beams go on",
                _beam_continues_finished,
                "Nothing may follow the end token: a finished beam enters the list unchanged.",
            ),
            Mistake(
                "log-probabilities are multiplied",
                _beam_multiplies_logs,
                "Probabilities multiply, so their logarithms add.",
            ),
            Mistake(
                "probabilities are added to the score",
                _beam_adds_probabilities,
                "The score is a sum of logarithms. Do not take the exponential.",
            ),
            Mistake(
                "only the last token's score counts",
                _beam_last_token_only,
                "The score of a text is the score so far plus the new token's.",
            ),
            Mistake(
                "each beam keeps only its own best token",
                _beam_no_competition,
                "This is greedy search, several times. All continuations of all beams compete in "
                "one list, and one beam may have several successors.",
            ),
            Mistake(
                "the worst are kept",
                _beam_keeps_worst,
                "Log-probabilities are negative, and the best is the largest, closest to 0.",
            ),
            Mistake(
                "nothing is dropped",
                _beam_keeps_all,
                "Keep the `num_beams` best only. Otherwise the list multiplies at each step.",
            ),
            Mistake(
                "the score is divided by the length",
                _beam_mean_score,
                "A penalty for length belongs to the end of the search. If you divide at each "
                "step, old tokens are divided again and again.",
            ),
        ),
    ),
    Exercise(
        id="06.cache_position",
        title="Find the bug: the cache that drifts",
        reference=logits_with_cache,
        start=late_logits_with_cache,
        cases=_cache_cases,
        mistakes=(
            Mistake(
                "one position too early",
                _cache_one_early,
                "Now the new token stands on the place of the last one. Count from 0: which "
                "position follows n tokens?",
            ),
            Mistake(
                "always position 0",
                _cache_position_zero,
                "The model would take each new token for the first of the text. How many tokens "
                "lie before it?",
            ),
            Mistake(
                "positions start again after the prompt",
                _cache_counts_new_tokens,
                "The prompt's tokens have positions too. Count them.",
            ),
            Mistake(
                "the cache is emptied at each step",
                _cache_emptied,
                "With a fresh cache the new token sees nothing but itself. Keep one cache for the "
                "whole text.",
            ),
            Mistake(
                "the whole text goes in again",
                _cache_read_again,
                "The cache holds the earlier tokens already. Feed them again, and they are there "
                "twice.",
            ),
        ),
        praise="The logits with the cache are those of recomputation.",
    ),
)
