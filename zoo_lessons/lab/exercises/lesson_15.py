"""Exercises of lesson 15: windows, global tokens, random blocks, linear attention and its bug."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.layers.attention import causal_mask

# --- a window, without the matrix ----------------------------------------------------------------


def _windows(k: Tensor, v: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys (length, w, d) and values at the places (length, w), and which places exist."""
    exists = (places >= 0) & (places < len(k))
    clamped = places.clamp(0, len(k) - 1)
    return k[clamped], v[clamped], exists


def _attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float | None = None) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (k @ q[..., None]).squeeze(-1) * scale  # (length, w)
    return (scores.masked_fill(~seen, -math.inf).softmax(dim=-1)[:, None] @ v).squeeze(1)


def _places(length: int, radius: int) -> Tensor:
    return torch.arange(length)[:, None] + torch.arange(-radius, radius + 1)


def window_attention(q: Tensor, k: Tensor, v: Tensor, radius: int) -> Tensor:
    return _attend(q, *_windows(k, v, _places(len(q), radius)))


def _window_one_short(q, k, v, radius):
    places = torch.arange(len(q))[:, None] + torch.arange(-radius, radius)
    return _attend(q, *_windows(k, v, places))


def _window_one_wide(q, k, v, radius):
    return window_attention(q, k, v, radius + 1)


def _window_as_a_whole(q, k, v, radius):
    return window_attention(q, k, v, radius // 2)


def _window_looks_back_only(q, k, v, radius):
    places = torch.arange(len(q))[:, None] + torch.arange(-radius, 1)
    return _attend(q, *_windows(k, v, places))


def _window_repeats_the_ends(q, k, v, radius):
    keys, values, exists = _windows(k, v, _places(len(q), radius))
    return _attend(q, keys, values, torch.ones_like(exists))


def _window_zeros_beyond_the_ends(q, k, v, radius):
    keys, values, exists = _windows(k, v, _places(len(q), radius))
    keys, values = keys * exists[..., None], values * exists[..., None]
    return _attend(q, keys, values, torch.ones_like(exists))


def _window_wraps_around(q, k, v, radius):
    places = _places(len(q), radius) % len(q)
    return _attend(q, k[places], v[places], torch.ones_like(places, dtype=torch.bool))


def _window_unscaled(q, k, v, radius):
    return _attend(q, *_windows(k, v, _places(len(q), radius)), scale=1.0)


def _window_masked_after_softmax(q, k, v, radius):
    weights = (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1)
    place = torch.arange(len(q))
    near = (place[:, None] - place).abs() <= radius
    return (weights * near) @ v


def _window_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, length: int, radius: int, d: int, scale: float) -> Case:
        q, k = scale * torch.randn(2, length, d, generator=generator, dtype=torch.float64)
        v = torch.randn(length, d + 1, generator=generator, dtype=torch.float64)
        return Case((q, k, v, radius), label=label)

    return (
        case("11 tokens, radius 3", 11, 3, 4, 1.5),
        case("9 tokens, radius 2, large scores", 9, 2, 5, 3.0),
        case("radius 0: each token sees itself", 5, 0, 3, 1.0),
        case("4 tokens, radius 6: the window is wider than the text", 4, 6, 4, 1.0),
    )


# --- how many layers until all is seen -----------------------------------------------------------


def layers_needed(length: int, radius: int) -> int:
    return -(-(length - 1) // radius)


def _layers_by_window(length, radius):
    return -(-(length - 1) // (2 * radius + 1))


def _layers_rounded_down(length, radius):
    return (length - 1) // radius


def _layers_of_length(length, radius):
    return -(-length // radius)


def _layers_from_the_middle(length, radius):
    return -(-(length - 1) // (2 * radius))


def _layers_doubling(length, radius):
    return max(1, math.ceil(math.log2((length - 1) / radius)) + 1)


_LAYER_CASES = (
    Case((13, 4), label="13 tokens, radius 4"),
    Case((14, 4), label="14 tokens, radius 4"),
    Case((4096, 256), label="Longformer: 4,096 tokens, 256 to each side"),
    Case((7, 6), label="7 tokens, radius 6"),
    Case((101, 1), label="101 tokens, radius 1"),
)


# --- global tokens -------------------------------------------------------------------------------


def add_global_tokens(mask: Tensor, positions: list[int]) -> Tensor:
    mask = mask.clone()
    mask[positions, :] = True
    mask[:, positions] = True
    return mask


def _global_is_only_seen(mask, positions):
    mask = mask.clone()
    mask[:, positions] = True
    return mask


def _global_only_sees(mask, positions):
    mask = mask.clone()
    mask[positions, :] = True
    return mask


def _global_among_themselves(mask, positions):
    chosen = torch.zeros(len(mask), dtype=torch.bool)
    chosen[positions] = True
    return mask | (chosen[:, None] & chosen)


def _global_replaces_window(mask, positions):
    return add_global_tokens(torch.zeros_like(mask), positions)


def _global_in_place(mask, positions):
    mask[positions, :] = True
    mask[:, positions] = True
    return mask


def _global_the_first_ones(mask, positions):
    return add_global_tokens(mask, list(range(len(positions))))


def _global_keeps_only_them(mask, positions):
    chosen = torch.zeros(len(mask), dtype=torch.bool)
    chosen[positions] = True
    return mask & (chosen[:, None] | chosen)


def _global_cases() -> tuple[Case, ...]:
    def near(length: int, radius: int) -> Tensor:
        place = torch.arange(length)
        return (place[:, None] - place).abs() <= radius

    skewed = near(8, 1) & causal_mask(8)
    return (
        Case((near(9, 1), [0, 5]), label="9 tokens, radius 1, tokens 0 and 5"),
        Case((near(6, 2), [-1]), label="6 tokens, the last one"),
        Case((skewed, [3]), label="a mask that is not symmetric"),
        Case((near(7, 1), []), label="no global token"),
    )


# --- random blocks -------------------------------------------------------------------------------


def _expand(drawn: Tensor, block: int) -> Tensor:
    """Blocks (..., blocks, blocks) as tokens."""
    return drawn.repeat_interleave(block, dim=-2).repeat_interleave(block, dim=-1)


def _draw(blocks: int, count: int, generator: torch.Generator | None) -> Tensor:
    drawn = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        drawn[i, torch.randperm(blocks, generator=generator)[:count]] = True
    return drawn


def random_block_mask(heads: int, blocks: int, block: int, count: int, seed: int) -> Tensor:
    drawn = _draw(blocks, count, torch.Generator().manual_seed(seed))
    return _expand(drawn, block).expand(heads, -1, -1)


def _random_each_call(heads, blocks, block, count, seed):
    return _expand(_draw(blocks, count, None), block).expand(heads, -1, -1)


def _random_each_head(heads, blocks, block, count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([_expand(_draw(blocks, count, generator), block) for _ in range(heads)])


def _random_same_for_all_blocks(heads, blocks, block, count, seed):
    drawn = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        generator = torch.Generator().manual_seed(seed)
        drawn[i, torch.randperm(blocks, generator=generator)[:count]] = True
    return _expand(drawn, block).expand(heads, -1, -1)


def _random_tokens(heads, blocks, block, count, seed):
    generator = torch.Generator().manual_seed(seed)
    length = blocks * block
    mask = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        mask[i, torch.randperm(length, generator=generator)[:count]] = True
    return mask.expand(heads, -1, -1)


def _random_each_query(heads, blocks, block, count, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(blocks * block, blocks, dtype=torch.bool)
    for i in range(blocks * block):
        drawn[i, torch.randperm(blocks, generator=generator)[:count]] = True
    return drawn.repeat_interleave(block, dim=1).expand(heads, -1, -1)


def _random_transposed(heads, blocks, block, count, seed):
    return random_block_mask(heads, blocks, block, count, seed).transpose(-2, -1)


def _random_interleaved(heads, blocks, block, count, seed):
    drawn = _draw(blocks, count, torch.Generator().manual_seed(seed))
    return drawn.repeat(block, block).expand(heads, -1, -1)


def _random_with_repeats(heads, blocks, block, count, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        drawn[i, torch.randint(blocks, (count,), generator=generator)] = True
    return _expand(drawn, block).expand(heads, -1, -1)


_RANDOM_CASES = (
    Case((2, 6, 3, 2, 1), label="2 heads, 6 blocks of 3 tokens, 2 of them drawn"),
    Case((3, 5, 2, 1, 7), label="3 heads, 5 blocks of 2 tokens, 1 drawn"),
    Case((2, 9, 1, 3, 0), label="blocks of one token"),
    Case((1, 4, 2, 4, 3), label="all blocks drawn"),
)


# --- linear attention ----------------------------------------------------------------------------


def _phi(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def linear_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    q, k = _phi(q), _phi(k) * keep[..., None]
    top = q @ (k.transpose(-2, -1) @ v)
    return top / (q @ k.sum(dim=-2)[..., None])


def _linear_no_normaliser(q, k, v, keep):
    q, k = _phi(q), _phi(k) * keep[..., None]
    return q @ (k.transpose(-2, -1) @ v)


def _linear_mean(q, k, v, keep):
    return _linear_no_normaliser(q, k, v, keep) / keep.sum(dim=-1)[..., None, None]


def _linear_without(phi: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def answer(q, k, v, keep):
        q, k = phi(q), phi(k) * keep[..., None]
        return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(dim=-2)[..., None])

    return answer


def _linear_forgets_padding(q, k, v, keep):
    return linear_attention(q, k, v, torch.ones_like(keep))


def _linear_padding_in_the_sum(q, k, v, keep):
    q, k = _phi(q), _phi(k)
    top = q @ ((k * keep[..., None]).transpose(-2, -1) @ v)
    return top / (q @ k.sum(dim=-2)[..., None])


def _linear_masks_before_phi(q, k, v, keep):
    q, k = _phi(q), _phi(k * keep[..., None])
    return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(dim=-2)[..., None])


def _linear_normalises_queries(q, k, v, keep):
    q, k = _phi(q), _phi(k) * keep[..., None]
    weights = q @ k.transpose(-2, -1)
    return weights / weights.sum(dim=-2, keepdim=True).clamp(min=1e-12) @ v


def _linear_softmax(q, k, v, keep):
    scores = _phi(q) @ _phi(k).transpose(-2, -1)
    return scores.masked_fill(~keep[..., None, :], -math.inf).softmax(dim=-1) @ v


def _linear_phi_on_keys_only(q, k, v, keep):
    k = _phi(k) * keep[..., None]
    return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(dim=-2)[..., None])


def _linear_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, lengths: list[int], d: int, d_v: int, scale: float) -> Case:
        longest = max(lengths)
        shape = (len(lengths), longest)
        q, k = scale * torch.randn(2, *shape, d, generator=generator, dtype=torch.float64)
        v = torch.randn(*shape, d_v, generator=generator, dtype=torch.float64)
        keep = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return Case((q, k, v, keep), label=label)

    return (
        case("texts of 7, 4 and 2 tokens", [7, 4, 2], 5, 3, 1.0),
        case("no padding", [6, 6], 4, 4, 2.0),
        case("one text, large q and k", [9], 3, 5, 4.0),
    )


# --- one step of the recurrence ------------------------------------------------------------------


def linear_step(
    q: Tensor, k: Tensor, v: Tensor, kv: Tensor, k_sum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    kv, k_sum = kv + torch.outer(k, v), k_sum + k
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_answers_first(q, k, v, kv, k_sum):
    output = q @ kv / (q @ k_sum)
    return output, kv + torch.outer(k, v), k_sum + k


def _step_transposed(q, k, v, kv, k_sum):
    kv, k_sum = kv + torch.outer(v, k), k_sum + k
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_forgets_the_past(q, k, v, kv, k_sum):
    kv, k_sum = torch.outer(k, v), k.clone()
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_no_normaliser(q, k, v, kv, k_sum):
    kv, k_sum = kv + torch.outer(k, v), k_sum + k
    return q @ kv, kv, k_sum


def _step_normaliser_stays(q, k, v, kv, k_sum):
    kv = kv + torch.outer(k, v)
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_normaliser_late(q, k, v, kv, k_sum):
    kv = kv + torch.outer(k, v)
    return q @ kv / (q @ k_sum), kv, k_sum + k


def _step_in_place(q, k, v, kv, k_sum):
    kv += torch.outer(k, v)
    k_sum += k
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_sums_values(q, k, v, kv, k_sum):
    kv, k_sum = kv + k[:, None] * v, k_sum + v.sum()
    return q @ kv / (q @ k_sum), kv, k_sum


def _step_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(3)

    def case(label: str, features: int, d_v: int, tokens: int) -> Case:
        k, q = torch.rand(2, tokens + 1, features, generator=generator, dtype=torch.float64) + 0.1
        v = torch.randn(tokens + 1, d_v, generator=generator, dtype=torch.float64)
        kv, k_sum = k[:tokens].T @ v[:tokens], k[:tokens].sum(dim=0)
        return Case((q[-1], k[-1], v[-1], kv, k_sum), label=label)

    return (
        case("after 5 tokens, as many features as values", 4, 4, 5),
        case("after 2 tokens, 3 features, 5 values", 3, 5, 2),
        case("the first token: the state is all zeros", 6, 2, 0),
    )


# --- find the bug --------------------------------------------------------------------------------


def _in_chunks(q, k, v, chunk: int, step: Callable) -> Tensor:
    """Each chunk's output from `step(q, k, v, kv, k_sum)`; the state takes it in afterwards."""
    kv, k_sum = k.new_zeros(k.shape[-1], v.shape[-1]), k.new_zeros(k.shape[-1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        outputs.append(step(q_c, k_c, v_c, kv, k_sum))
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)
    return torch.cat(outputs)


def _own(q_c: Tensor, k_c: Tensor, diagonal: int = 0) -> Tensor:
    return (q_c @ k_c.T).tril(diagonal)


def causal_chunks(q: Tensor, k: Tensor, v: Tensor, chunk: int) -> Tensor:
    def step(q_c, k_c, v_c, kv, k_sum):
        own = _own(q_c, k_c)
        return (own @ v_c + q_c @ kv) / (own.sum(dim=1) + q_c @ k_sum)[:, None]

    return _in_chunks(q, k, v, chunk, step)


def leaking_causal_chunks(q, k, v, chunk):
    kv, k_sum = k.new_zeros(k.shape[-1], v.shape[-1]), k.new_zeros(k.shape[-1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)
        outputs.append(q_c @ kv / (q_c @ k_sum)[:, None])
    return torch.cat(outputs)


def _chunks_counted_twice(q, k, v, chunk):
    kv, k_sum = k.new_zeros(k.shape[-1], v.shape[-1]), k.new_zeros(k.shape[-1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)
        own = _own(q_c, k_c)
        total = own.sum(dim=1) + q_c @ k_sum
        outputs.append((own @ v_c + q_c @ kv) / total[:, None])
    return torch.cat(outputs)


def _chunks_without_themselves(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        total = (q_c @ k_sum).clamp(min=1e-30)
        return q_c @ kv / total[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunks_without_the_diagonal(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        own = _own(q_c, k_c, -1)
        total = (own.sum(dim=1) + q_c @ k_sum).clamp(min=1e-30)
        return (own @ v_c + q_c @ kv) / total[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunks_forget_the_past(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        own = _own(q_c, k_c)
        return own @ v_c / own.sum(dim=1)[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunks_normalised_apart(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        own = _own(q_c, k_c)
        past = (q_c @ k_sum).clamp(min=1e-30)
        return own @ v_c / own.sum(dim=1)[:, None] + q_c @ kv / past[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunks_unmasked_normaliser(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        total = (q_c @ k_c.T).sum(dim=1) + q_c @ k_sum
        return (_own(q_c, k_c) @ v_c + q_c @ kv) / total[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunks_masked_the_other_way(q, k, v, chunk):
    def step(q_c, k_c, v_c, kv, k_sum):
        own = (q_c @ k_c.T).triu()
        return (own @ v_c + q_c @ kv) / (own.sum(dim=1) + q_c @ k_sum)[:, None]

    return _in_chunks(q, k, v, chunk, step)


def _chunk_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(4)

    def case(label: str, length: int, chunk: int, features: int, d_v: int) -> Case:
        q, k = torch.rand(2, length, features, generator=generator, dtype=torch.float64) + 0.1
        v = torch.randn(length, d_v, generator=generator, dtype=torch.float64)
        return Case((q, k, v, chunk), label=label)

    return (
        case("11 tokens in chunks of 4", 11, 4, 3, 5),
        case("8 tokens in chunks of 3", 8, 3, 5, 2),
        case("one chunk holds the whole text", 6, 9, 4, 4),
    )


EXERCISES = (
    Exercise(
        id="15.window_attention",
        title="A window without the matrix",
        reference=window_attention,
        cases=_window_cases,
        mistakes=(
            Mistake(
                "the window is one token short",
                _window_one_short,
                "A Python range leaves out its end. With radius 1 a token sees three: the one "
                "before, itself, and the one after.",
            ),
            Mistake(
                "the window is one token too wide",
                _window_one_wide,
                "A token at distance `radius` is the last one that is seen. Count the keys that "
                "you take: there should be 2 · radius + 1.",
            ),
            Mistake(
                "radius taken for the whole window",
                _window_as_a_whole,
                "`radius` counts the tokens to *each* side. You gave half of it to each side.",
            ),
            Mistake(
                "the window looks back only",
                _window_looks_back_only,
                "This is a causal window. Here a token also sees those after it.",
            ),
            Mistake(
                "the ends are repeated",
                _window_repeats_the_ends,
                "Clamped places are not real keys: near the ends, the first or the last token "
                "counts several times. Mask the places that lie outside.",
            ),
            Mistake(
                "zeros beyond the ends take part",
                _window_zeros_beyond_the_ends,
                "A key of zeros has the score 0, and e⁰ = 1 takes a share of the weight. Beyond "
                "the ends the *score* must be -inf.",
            ),
            Mistake(
                "the window wraps around",
                _window_wraps_around,
                "Your first token sees the last one. A negative index counts from the end, and a "
                "remainder does the same: a text is no circle.",
            ),
            Mistake(
                "no scale",
                _window_unscaled,
                "The scores are not divided by √d. A window changes which keys are seen, and "
                "nothing else of the formula.",
            ),
            Mistake(
                "the softmax runs over all keys",
                _window_masked_after_softmax,
                "The weights of a token no longer sum to 1: the softmax must run over the window "
                "only. You also made the full matrix, which this exercise wants to avoid.",
            ),
        ),
        praise="The same as the masked matrix. The check compares results only: the cost is linear "
        "if no tensor of yours is tokens × tokens.",
    ),
    Exercise(
        id="15.layers_needed",
        title="How many layers until all is seen",
        reference=layers_needed,
        cases=_LAYER_CASES,
        mistakes=(
            Mistake(
                "steps of a whole window",
                _layers_by_window,
                "A layer carries news by `radius` tokens in one direction, not by the width of "
                "the whole window.",
            ),
            Mistake(
                "rounded down",
                _layers_rounded_down,
                "If a rest of the way is left, it takes one more layer: round up.",
            ),
            Mistake(
                "the length instead of the distance",
                _layers_of_length,
                "From the first token to the last of n tokens there are n - 1 steps.",
            ),
            Mistake(
                "both ends walk",
                _layers_from_the_middle,
                "The last token must learn of the first. Meeting in the middle is not enough: the "
                "news must go the whole way.",
            ),
            Mistake(
                "the reach doubles",
                _layers_doubling,
                "Each layer adds the same number of tokens to the reach. It would double only if "
                "the windows themselves grew.",
            ),
        ),
    ),
    Exercise(
        id="15.global_tokens",
        title="Global tokens",
        reference=add_global_tokens,
        cases=_global_cases,
        mistakes=(
            Mistake(
                "the global token does not look back",
                _global_is_only_seen,
                "All see the global token, but it sees only its window: it has nothing to report. "
                "Its *row* must be filled too.",
            ),
            Mistake(
                "nobody sees the global token",
                _global_only_sees,
                "The global token sees all, but the others cannot ask it. Its *column* must be "
                "filled too.",
            ),
            Mistake(
                "only global tokens see each other",
                _global_among_themselves,
                "A pair is allowed if the query *or* the key is global. You ask for both.",
            ),
            Mistake(
                "the window is gone",
                _global_replaces_window,
                "Add to the mask that you were given. What it allowed stays allowed.",
            ),
            Mistake(
                "only pairs with a global token are left",
                _global_keeps_only_them,
                "You removed pairs. The new pattern is the union of the mask and the global pairs.",
            ),
            Mistake(
                "changed in place",
                _global_in_place,
                "The pattern is right, but the caller's mask has changed too. Copy it first.",
            ),
            Mistake(
                "always the first tokens",
                _global_the_first_ones,
                "`positions` says which tokens are global. They need not stand at the beginning.",
            ),
        ),
    ),
    Exercise(
        id="15.random_blocks",
        title="Random blocks",
        reference=random_block_mask,
        cases=_RANDOM_CASES,
        mistakes=(
            Mistake(
                "drawn anew at each call",
                _random_each_call,
                "Your draw ignores `seed`. A layer would see other blocks at each call: what it "
                "learned to expect there is gone. Make a `torch.Generator` with the seed.",
            ),
            Mistake(
                "drawn anew for each head",
                _random_each_head,
                "The heads see different blocks. Draw once, then give the same mask to all heads.",
            ),
            Mistake(
                "all blocks draw the same",
                _random_same_for_all_blocks,
                "The generator starts again for each block of queries, so all of them draw the "
                "same blocks. Make it once.",
            ),
            Mistake(
                "tokens drawn instead of blocks",
                _random_tokens,
                "Single tokens are scattered over memory. What is drawn here are whole blocks.",
            ),
            Mistake(
                "each query draws its own blocks",
                _random_each_query,
                "All queries of a block share the draw: then one product of two small matrices "
                "serves the whole block.",
            ),
            Mistake(
                "queries and keys swapped",
                _random_transposed,
                "Each block of *queries* (rows) draws `count` blocks of keys. Yours has that "
                "number in the columns.",
            ),
            Mistake(
                "blocks are not next to each other",
                _random_interleaved,
                "`repeat` tiles the small matrix. Each entry should become a square of "
                "block × block: look at `repeat_interleave`.",
            ),
            Mistake(
                "a block can be drawn twice",
                _random_with_repeats,
                "`randint` may draw the same block twice, and a row then sees too few. `randperm` "
                "does not repeat.",
            ),
        ),
    ),
    Exercise(
        id="15.linear_attention",
        title="Linear attention",
        reference=linear_attention,
        cases=_linear_cases,
        mistakes=(
            Mistake(
                "the normaliser is forgotten",
                _linear_no_normaliser,
                "The weights of a query do not sum to 1: longer texts give larger outputs. Divide "
                "by φ(q) · Σ φ(k).",
            ),
            Mistake(
                "divided by the number of keys",
                _linear_mean,
                "The weights of a query sum to φ(q) · Σ φ(k), which differs from query to query. "
                "That is what to divide by.",
            ),
            Mistake(
                "φ is missing",
                _linear_without(lambda x: x),
                "Plain dot products can be negative, and then their sum, by which you divide, can "
                "be near zero. Apply φ to queries and keys.",
            ),
            Mistake(
                "φ is not positive",
                _linear_without(F.elu),
                "elu alone lies between -1 and 0 for negative numbers. φ is elu + 1.",
            ),
            Mistake(
                "φ is zero below zero",
                _linear_without(F.relu),
                "relu throws away all negative entries, and a query of such entries sees nothing. "
                "φ is elu + 1.",
            ),
            Mistake(
                "φ on the keys only",
                _linear_phi_on_keys_only,
                "A negative entry of q still makes negative weights. φ belongs on both.",
            ),
            Mistake(
                "padding takes part",
                _linear_forgets_padding,
                "Where `keep` is False there is no token. Its φ(k) must not enter any sum.",
            ),
            Mistake(
                "padding counts in the normaliser",
                _linear_padding_in_the_sum,
                "You left padding out above the fraction bar, but not below it.",
            ),
            Mistake(
                "padding set to zero before φ",
                _linear_masks_before_phi,
                "φ(0) is 1, not 0: the padding came back. Set φ(k) itself to zero.",
            ),
            Mistake(
                "normalised over the queries",
                _linear_normalises_queries,
                "The weights of one *query* should sum to 1. Yours sum to 1 for each key. And the "
                "full matrix was made.",
            ),
            Mistake(
                "softmax on top of φ",
                _linear_softmax,
                "The softmax takes exponentials of each score, so the scores, a full matrix, must "
                "exist. Here φ(q) · φ(k) itself is the weight, up to the division.",
            ),
        ),
    ),
    Exercise(
        id="15.linear_step",
        title="One step of the recurrence",
        reference=linear_step,
        cases=_step_cases,
        mistakes=(
            Mistake(
                "answers before it has read the token",
                _step_answers_first,
                "A causal query sees its own token too. Take the token into the state first.",
            ),
            Mistake(
                "outer product the wrong way round",
                _step_transposed,
                "The state has a row for each feature and a column for each value. Yours adds the "
                "transpose.",
            ),
            Mistake(
                "the past is forgotten",
                _step_forgets_the_past,
                "Add to the state that you were given. It holds all earlier tokens.",
            ),
            Mistake(
                "the normaliser is forgotten",
                _step_no_normaliser,
                "Divide by q · Σ k, or the output grows with each token.",
            ),
            Mistake(
                "Σ k is never updated",
                _step_normaliser_stays,
                "`k_sum` must take in this token's k as well.",
            ),
            Mistake(
                "Σ k is updated too late",
                _step_normaliser_late,
                "You divide by the sum without this token, while the sum above the bar has it. Its "
                "weights do not sum to 1.",
            ),
            Mistake(
                "the state is changed in place",
                _step_in_place,
                "The output is right, but the caller's state has changed. Whoever wants to go on "
                "from it twice (beam search does) is lost. Make new tensors.",
            ),
            Mistake(
                "values in the normaliser",
                _step_sums_values,
                "The normaliser is the sum of the *weights*. Values have no place in it.",
            ),
        ),
    ),
    Exercise(
        id="15.causal_chunks",
        title="Find the bug: chunks that read ahead",
        reference=causal_chunks,
        start=leaking_causal_chunks,
        cases=_chunk_cases,
        mistakes=(
            Mistake(
                "the own chunk counts twice",
                _chunks_counted_twice,
                "Your state already holds the chunk when you add its own part. Bring the state up "
                "to date after the output.",
            ),
            Mistake(
                "the own chunk is left out",
                _chunks_without_themselves,
                "Now a token sees only the chunks before its own. Inside a chunk, it also sees the "
                "tokens up to itself.",
            ),
            Mistake(
                "a token does not see itself",
                _chunks_without_the_diagonal,
                "The diagonal belongs to the mask: each token sees itself.",
            ),
            Mistake(
                "the past is forgotten",
                _chunks_forget_the_past,
                "Each chunk now stands alone. The state of the earlier ones must enter the output.",
            ),
            Mistake(
                "own part and past are normalised apart",
                _chunks_normalised_apart,
                "Two fractions, each with weights that sum to 1, sum to 2. One division, by both "
                "sums together.",
            ),
            Mistake(
                "the normaliser still reads ahead",
                _chunks_unmasked_normaliser,
                "The values are masked now, but the sum of the weights still contains later "
                "tokens.",
            ),
            Mistake(
                "masked the other way round",
                _chunks_masked_the_other_way,
                "Your mask keeps the later tokens of the chunk. A token may see the earlier ones.",
            ),
        ),
        praise="No output depends on later tokens, for any chunk.",
    ),
)
