"""Text from a language model, token by token: greedy, sampling, top-k, top-p and beam search.

Sources: top-k sampling is from Fan et al., "Hierarchical Neural Story Generation" (2018), section
5.3; top-p (nucleus) sampling from Holtzman et al., "The Curious Case of Neural Text Degeneration"
(2019), section 3.1; the length penalty of beam search divides by length^α, a simple form of Wu et
al., "Google's Neural Machine Translation System" (2016), section 7.

Any model works whose `forward(input_ids, attention_mask, cache=...)` returns an object with
`logits` (batch, length, vocab_size), and whose `config.num_layers` counts its attention layers.
Call `model.eval()` first: in training mode, dropout disturbs every token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.cache import KeyValueCache

AllowedTokens = Callable[[list[int]], Sequence[int]]


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits to -inf. Logits equal to the k-th largest stay too.

    Args:
        logits: (..., vocab_size).
        k: how many to keep; more than vocab_size keeps all.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k}, expected at least 1 token to keep")
    smallest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the likeliest tokens until their probabilities reach p; set the others to -inf.

    The token that crosses p is kept, so that at least one always is.

    Args:
        logits: (..., vocab_size).
        p: in (0, 1]; 1 keeps all.

    Raises:
        ValueError: p is outside (0, 1].
    """
    if not 0.0 < p <= 1.0:
        raise ValueError(f"p={p}, expected a probability above 0 and at most 1")
    if p == 1.0:  # rounding in the sum below must not drop the rarest tokens
        return logits
    ordered, order = logits.sort(descending=True)
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability  # what the likelier tokens sum to
    drop = torch.empty_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -math.inf)


def next_token(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a token: divide by the temperature, keep the top k, keep the top p, sample.

    Args:
        logits: (vocab_size) or (batch, vocab_size).
        temperature: below 1 sharpens, above 1 flattens; 0 takes the likeliest token.
        top_k: as in `keep_top_k`; None keeps all.
        top_p: as in `keep_top_p`; None keeps all.
        generator: source of randomness, for results that can be repeated.

    Returns:
        Token ids: () or (batch).

    Raises:
        ValueError: a negative temperature, or a top_k or top_p out of range.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature}, expected 0 (greedy) or above")
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)


@torch.no_grad()
def generate(
    model: nn.Module,
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    eos_token_id: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    use_cache: bool = True,
    allowed_tokens: AllowedTokens | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue each prompt until it has said EOS or `max_new_tokens` are written.

    Args:
        model: a causal language model, see the module's text.
        input_ids: prompts (batch, length).
        max_new_tokens: the most tokens to add.
        attention_mask: 0/1 (batch, length) for prompts of different lengths, padded on the left.
            The model must take `position_ids`, as `GPT` does.
        eos_token_id: ends a row; the row then repeats it until the others end too.
        temperature, top_k, top_p, generator: as in `next_token`, but greedy by default.
        use_cache: keep keys and values, and read only the new token at each step. The result is
            the same without, only slower.
        allowed_tokens: given a row's ids so far, the ids that may come next.

    Returns:
        The prompts and what follows them, (batch, length + at most max_new_tokens).

    Raises:
        ValueError: an empty prompt, max_new_tokens below 1, padding on the right, nothing allowed.
    """
    _require_prompt(input_ids, max_new_tokens, attention_mask)
    cache = KeyValueCache(model.config.num_layers) if use_cache else None
    ids = input_ids
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(max_new_tokens):
        logits = _next_logits(model, ids, attention_mask, cache)  # (batch, vocab_size)
        if allowed_tokens is not None:
            logits = _only_allowed(logits, ids, attention_mask, done, allowed_tokens)
        token = next_token(
            logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
        if eos_token_id is not None:
            token = token.masked_fill(done, eos_token_id)
            done = token == eos_token_id
        ids = torch.cat([ids, token[:, None]], dim=1)
        if done.all():
            break
    return ids


class Beam(NamedTuple):
    """One result of beam search."""

    ids: Tensor  # (length): the prompt and what follows it
    score: float  # sum of the new tokens' log-probabilities / their number ^ length_penalty


@torch.no_grad()
def beam_search(
    model: nn.Module,
    input_ids: Tensor,
    *,
    num_beams: int,
    max_new_tokens: int,
    eos_token_id: int | None = None,
    length_penalty: float = 1.0,
    use_cache: bool = True,
    allowed_tokens: AllowedTokens | None = None,
) -> list[Beam]:
    """Follow the `num_beams` likeliest continuations at once; keep the best that end.

    Args:
        model: a causal language model, see the module's text.
        input_ids: one prompt, (1, length).
        num_beams: how many to follow; 1 is greedy.
        max_new_tokens: the most tokens to add; what is unfinished then counts as ended.
        eos_token_id: ends a beam.
        length_penalty: 0 compares sums of log-probabilities, which favours short texts; 1 compares
            means per token; above 1 favours long texts.
        use_cache, allowed_tokens: as in `generate`. Scores stay the model's own: what is forbidden
            does not add to what is allowed.

    Returns:
        At most `num_beams` results, best first.

    Raises:
        ValueError: as in `generate`, num_beams below 1, or more than one prompt.
    """
    _require_prompt(input_ids, max_new_tokens)
    if num_beams < 1 or len(input_ids) != 1:
        raise ValueError(
            f"num_beams={num_beams} and {len(input_ids)} prompts, expected at least 1 beam and "
            "exactly 1 prompt"
        )
    cache = KeyValueCache(model.config.num_layers) if use_cache else None
    beams, scores = input_ids, input_ids.new_zeros(1, dtype=torch.float32)
    finished: list[Beam] = []
    for step in range(1, max_new_tokens + 1):
        log_p = _next_logits(model, beams, None, cache).float().log_softmax(dim=-1)
        if allowed_tokens is not None:
            log_p = _only_allowed(log_p, beams, None, None, allowed_tokens)
        total = scores[:, None] + log_p  # (beams, vocab_size)
        # Twice as many as needed: even if half of them end here, num_beams remain to go on.
        best, index = total.flatten().topk(min(2 * num_beams, total.numel()))
        best, index = best[best.isfinite()], index[best.isfinite()]
        parent, token = index // total.shape[1], index % total.shape[1]
        candidates = torch.cat([beams[parent], token[:, None]], dim=1)
        ended = torch.full_like(token, step == max_new_tokens, dtype=torch.bool)
        if eos_token_id is not None:
            ended |= token == eos_token_id

        for i in ended[:num_beams].nonzero().flatten():
            finished.append(Beam(candidates[i], best[i].item() / step**length_penalty))
        finished = sorted(finished, key=lambda beam: beam.score, reverse=True)[:num_beams]
        going_on = (~ended).nonzero().flatten()[:num_beams]
        beams, scores = candidates[going_on], best[going_on]
        if not len(beams):
            break
        if len(finished) == num_beams and scores[0] / step**length_penalty <= finished[-1].score:
            break  # the best that goes on is no better than the worst that has ended
        if cache is not None:
            cache.reorder(parent[going_on])
    return finished


def _next_logits(
    model: nn.Module, ids: Tensor, attention_mask: Tensor | None, cache: KeyValueCache | None
) -> Tensor:
    """Logits after each row's last token, (batch, vocab_size). What is cached is not read again."""
    past = 0 if cache is None else cache.length
    positions = {}
    if attention_mask is not None:
        attention_mask = F.pad(attention_mask, (0, ids.shape[1] - attention_mask.shape[1]), value=1)
        from_first_token = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        positions = {"position_ids": from_first_token[:, past:]}
    return model(ids[:, past:], attention_mask, cache=cache, **positions).logits[:, -1]


def _only_allowed(
    logits: Tensor,
    ids: Tensor,
    attention_mask: Tensor | None,
    done: Tensor | None,
    allowed_tokens: AllowedTokens,
) -> Tensor:
    """Set every logit to -inf that `allowed_tokens` does not name. Finished rows stay as they are.

    `allowed_tokens` sees a row's ids without the padding on the left.
    """
    forbidden = torch.zeros_like(logits, dtype=torch.bool)
    for row, so_far in enumerate(ids.tolist()):
        if done is not None and done[row]:
            continue
        padding = 0 if attention_mask is None else int((attention_mask[row] == 0).sum())
        allowed = list(allowed_tokens(so_far[padding:]))
        if not allowed:
            raise ValueError(
                f"allowed_tokens returned nothing for row {row} after {so_far[padding:]}, expected "
                "at least one id (allow the end-of-sequence token to stop there)"
            )
        forbidden[row] = True
        forbidden[row, allowed] = False
    return logits.masked_fill(forbidden, -math.inf)


def _require_prompt(
    input_ids: Tensor, max_new_tokens: int, attention_mask: Tensor | None = None
) -> None:
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        raise ValueError(
            f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, length) with at least "
            "one token to start from"
        )
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}, expected at least 1")
    if attention_mask is None:
        return
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected the prompts' "
            f"{tuple(input_ids.shape)}"
        )
    mask = attention_mask.long()
    if (mask.diff(dim=1) < 0).any() or not mask[:, -1].all():
        raise ValueError(
            "attention_mask has padding on the right, expected it on the left only: new tokens "
            "follow the prompt's last"
        )
