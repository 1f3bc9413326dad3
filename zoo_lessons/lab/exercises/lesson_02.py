"""Exercises of lesson 02: split heads, the whole layer, a bug, a head to find, parameters."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.lab.exercises import Case, Exercise, Mistake, Verdict
from zoo_lessons.layers import record_attention, scaled_dot_product_attention

# Split heads


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(batch, length, d_model) -> (batch, heads, length, head_dim)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _normal(draw: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)


def _split_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(21)
    # batch, length, heads and head_dim all differ, so that no wrong axis fits by chance.
    return (
        Case((_normal(draw, 2, 5, 12), 3), label="batch 2, length 5, 3 heads of width 4"),
        Case((_normal(draw, 4, 4, 16), 4), label="batch, length, heads and head_dim are all 4"),
        Case((_normal(draw, 1, 6, 10), 2), label="a batch of one sentence"),
        Case((_normal(draw, 3, 1, 6), 2), label="sentences of one token"),
        Case((_normal(draw, 3, 8, 5).transpose(1, 2), 2), label="a non-contiguous input"),
        Case((_normal(draw, 2, 3, 8, dtype=torch.float64), 8), label="float64, heads of width 1"),
    )


def _view_only(x: Tensor, num_heads: int) -> Tensor:
    batch, length, d_model = x.shape
    return x.reshape(batch, num_heads, length, d_model // num_heads)


SPLIT_HEADS = Exercise(
    id="02.split_heads",
    title="Split heads",
    reference=split_heads,
    cases=_split_cases,
    mistakes=(
        Mistake(
            "reshaped straight to (batch, heads, length, head_dim)",
            _view_only,
            "The shape is right, but reshape reads the numbers row by row: your head 0 holds all "
            "features of the first tokens. Try `x = torch.arange(12).reshape(1, 3, 4)` with 2 "
            "heads: head 0 must hold 0, 1 of the first token and 4, 5 of the second.",
        ),
        Mistake(
            "the features are dealt out to the heads in turn",
            lambda x, num_heads: x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2),
            "With 4 features and 2 heads, head 0 owns features 0 and 1; yours owns 0 and 2. "
            "Which of the two new axes comes first when the last axis is cut in two?",
        ),
        Mistake(
            "num_heads is taken as the width of a head",
            lambda x, num_heads: x.unflatten(-1, (-1, num_heads)).transpose(1, 2),
            "With width 12 and 3 heads, a head is 12 / 3 = 4 wide. Your result has "
            "heads of width 3.",
        ),
        Mistake(
            "heads and length are not swapped",
            lambda x, num_heads: x.unflatten(-1, (num_heads, -1)),
            "You cut the last axis in two, which is right. Attention works on the last two axes, "
            "which must be length and head_dim: one axis has to move.",
        ),
        Mistake(
            "length and head_dim are swapped",
            lambda x, num_heads: x.unflatten(-1, (num_heads, -1)).permute(0, 2, 3, 1),
            "You moved the length to the end. The last two axes must be length, then head_dim.",
        ),
        Mistake(
            "the heads come before the batch",
            lambda x, num_heads: torch.stack(x.chunk(num_heads, dim=-1)),
            "Cutting and stacking is a fine way. `torch.stack` puts the new axis first unless you "
            "say where; the heads belong behind the batch.",
        ),
    ),
)

# Multi-head attention by hand


def multi_head_attention(
    x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, num_heads: int
) -> Tensor:
    """Concat(head_1 ... head_h) W^O, with head_i = attention(x W_i^Q, x W_i^K, x W_i^V)."""
    q, k, v = (split_heads(x @ w, num_heads) for w in (w_q, w_k, w_v))
    heads, _ = scaled_dot_product_attention(q, k, v)  # (batch, heads, length, head_dim)
    return heads.transpose(1, 2).flatten(2) @ w_o


def _attention_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(22)

    def case(
        batch: int, length: int, d_model: int, heads: int, label: str, dtype: Any, size: float = 1.0
    ) -> Case:
        x = _normal(draw, batch, length, d_model, dtype=dtype)
        # Weights of this size give scores near 1: large ones would saturate the softmax and hide
        # a wrong scale.
        weights = [
            size * _normal(draw, d_model, d_model, dtype=dtype) / math.sqrt(d_model)
            for _ in range(4)
        ]
        return Case((x, *weights, heads), label=label)

    single, double = torch.float32, torch.float64
    return (
        case(2, 5, 12, 3, "batch 2, length 5, 3 heads of width 4", single),
        case(4, 4, 16, 4, "batch, length, heads and head_dim are all 4", single),
        case(1, 7, 8, 1, "a single head", single),
        case(3, 2, 6, 6, "heads of width 1", single),
        case(2, 6, 10, 2, "large scores", single, size=3.0),
        case(2, 3, 8, 2, "float64", double),
    )


def _with(
    *,
    scale: Callable[[Tensor, Tensor], float] | None = None,
    split: Callable[[Tensor, int], Tensor] = split_heads,
    merge: Callable[[Tensor], Tensor] = lambda heads: heads.transpose(1, 2).flatten(2),
    project: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
    output: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
    swap: bool = False,
    dim: int = -1,
    project_values: bool = True,
) -> Callable[..., Tensor]:
    """A wrong multi-head attention with one step replaced."""

    def answer(
        x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, num_heads: int
    ) -> Tensor:
        q, k = (split(project(x, w), num_heads) for w in ((w_k, w_q) if swap else (w_q, w_k)))
        v = split(project(x, w_v) if project_values else x, num_heads)
        factor = scale(x, q) if scale else 1 / math.sqrt(q.shape[-1])
        weights = (q @ k.transpose(-2, -1) * factor).softmax(dim=dim)
        return output(merge(weights @ v), w_o)

    return answer


def _reshape_only(heads: Tensor) -> Tensor:
    batch, num_heads, length, head_dim = heads.shape
    return heads.reshape(batch, length, num_heads * head_dim)


MULTI_HEAD = Exercise(
    id="02.multi_head_attention",
    title="Multi-head attention with W^O",
    reference=multi_head_attention,
    cases=_attention_cases,
    mistakes=(
        Mistake(
            "W^O is missing",
            _with(output=lambda heads, w_o: heads),
            "Your heads are right and stand side by side. One matrix of the signature is unused.",
        ),
        Mistake(
            "the scale uses d_model instead of head_dim",
            _with(scale=lambda x, q: 1 / math.sqrt(x.shape[-1])),
            "A score is a sum over the width of one head. √d_k goes with that width, not with the "
            "width of the whole vector.",
        ),
        Mistake(
            "the scores are not scaled",
            _with(scale=lambda x, q: 1.0),
            "The attention inside each head is that of lesson 01, with its √d_k.",
        ),
        Mistake(
            "split without moving the head axis",
            _with(split=_view_only),
            "Reshaping straight to (batch, heads, length, head_dim) mixes tokens and features. "
            "Check your `split_heads` of exercise 1 on `torch.arange(12)`.",
        ),
        Mistake(
            "merged without moving the head axis back",
            _with(merge=_reshape_only),
            "Before the reshape the axes are (batch, heads, length, head_dim). A reshape to "
            "(batch, length, d_model) reads them in that order. Which axis must move first?",
        ),
        Mistake(
            "queries and keys are exchanged",
            _with(swap=True),
            "The token that asks uses W^Q. In your scores, rows belong to keys.",
        ),
        Mistake(
            "the values are not projected",
            _with(project_values=False),
            "Your heads hand over slices of x itself. Which matrix says what a head hands over?",
        ),
        Mistake(
            "softmax over the queries",
            _with(dim=-2),
            "Each query shares out a weight of 1 among the keys: sum the weights over the last "
            "axis and look.",
        ),
        Mistake(
            "the projections are transposed",
            _with(project=lambda x, w: x @ w.T),
            "Here the formula is x W, as in the paper. `nn.Linear` computes x Wᵀ, but these are "
            "plain matrices.",
        ),
        Mistake(
            "W^O is transposed",
            _with(output=lambda heads, w_o: heads @ w_o.T),
            "The concatenated heads are multiplied by W^O from the right, not by its transpose.",
        ),
    ),
)

# Find the bug


def merge_heads(heads: Tensor) -> Tensor:
    """(batch, heads, length, head_dim) -> (batch, length, heads * head_dim)."""
    return heads.transpose(1, 2).flatten(2)


def _merge_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(23)
    return (
        Case((_normal(draw, 2, 3, 5, 4),), label="batch 2, 3 heads, length 5, head_dim 4"),
        Case((_normal(draw, 4, 4, 4, 4),), label="all sizes are 4"),
        Case((_normal(draw, 1, 2, 6, 3),), label="a batch of one"),
        Case((_normal(draw, 3, 1, 4, 2),), label="a single head"),
        Case((_normal(draw, 2, 5, 3, 4).transpose(1, 2),), label="a non-contiguous input"),
        Case((_normal(draw, 2, 2, 3, 5, dtype=torch.float64),), label="float64"),
    )


def _reshaped_after(*order: int) -> Callable[[Tensor], Tensor]:
    def answer(heads: Tensor) -> Tensor:
        batch, num_heads, length, head_dim = heads.shape
        return heads.permute(*order).reshape(batch, length, num_heads * head_dim)

    return answer


MERGE_HEADS = Exercise(
    id="02.merge_heads",
    title="Find the bug: merge heads",
    reference=merge_heads,
    cases=_merge_cases,
    start=_reshape_only,
    mistakes=(
        Mistake(
            "each feature's heads stand together",
            _reshaped_after(0, 2, 3, 1),
            "The length is in its place now. In the last axis all of head 0 must come first, then "
            "all of head 1: yours has the first feature of every head first.",
        ),
        Mistake(
            "length and head_dim are exchanged",
            _reshaped_after(0, 1, 3, 2),
            "You moved the last two axes. The heads still come before the length.",
        ),
        Mistake(
            "the whole order is turned round",
            _reshaped_after(0, 3, 2, 1),
            "The length must come straight after the batch, then heads, then head_dim.",
        ),
        Mistake(
            "the heads are averaged",
            lambda heads: heads.mean(dim=1),
            "Averaging throws away what makes heads different, and the width comes out too small. "
            "Concat puts them side by side.",
        ),
        Mistake(
            "the axes are swapped but not merged",
            lambda heads: heads.transpose(1, 2),
            "The order of the axes is right. The last two must become one of width "
            "heads * head_dim.",
        ),
        Mistake(
            "the batch was merged too",
            lambda heads: heads.transpose(1, 2).flatten(0, 1).flatten(1),
            "The result needs three axes, (batch, length, d_model). Yours glues the sentences of "
            "the batch together.",
        ),
    ),
)

# Find the head that looks one word back

# The lesson shows none of these, so a head that fits only its sentence by chance does not pass.
HELD_OUT = (
    "Our neighbour grows tomatoes behind the small garage",
    "She opened a window because the kitchen was too warm",
    "Nobody expected that train to leave before nine",
    "Green tea tastes bitter when you boil it for long",
    "They painted every door of the school yellow last summer",
    "A violin and two old guitars hung above his desk",
)
_OFFSETS = {"back": -1, "ahead": 1, "itself": 0}


@functools.cache
def head_profiles() -> Mapping[str, Tensor]:
    """Where each head of MiniLM looks in the held-out sentences, on average over their words.

    Returns:
        "back", "ahead", "itself", "[CLS]" and "[SEP]", each the mean weight (layers, heads) that a
        word between two words puts on the one before it, the one after it, and so on.
    """
    sums: dict[str, Any] = {name: 0.0 for name in (*_OFFSETS, "[CLS]", "[SEP]")}
    count = 0
    for maps in _held_out_maps():
        last = maps.shape[-1] - 1
        words = torch.arange(2, last - 1)  # those that have a word on both sides
        count += len(words)
        for name, offset in _OFFSETS.items():
            sums[name] += maps[:, :, words, words + offset].sum(-1)
        for name, key in (("[CLS]", 0), ("[SEP]", last)):
            sums[name] += maps[:, :, words, key].sum(-1)
    return {name: total / count for name, total in sums.items()}


@functools.cache
def _held_out_maps() -> tuple[Tensor, ...]:
    """Maps (layers, heads, tokens, tokens) of MiniLM, one for each held-out sentence."""
    from zoo_lessons.weights import load_pretrained, load_tokenizer

    model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
    result = []
    for sentence in HELD_OUT:
        with torch.no_grad(), record_attention(model) as maps:
            model(torch.tensor([tokenizer.encode(sentence).ids]))
        result.append(maps.stack()[:, 0])
    return tuple(result)


def best_head(scores: Tensor) -> tuple[int, int]:
    """The (layer, head) of the largest of `scores` (layers, heads)."""
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return layer, head


# Mistakes by their name, since the grade below names them.
_AHEAD = "it looks one word ahead"
_ITSELF = "it looks at the word itself"
_SPECIAL = "it rests on [CLS] or [SEP]"
_SWAPPED = "layer and head are exchanged"
_ONE_BASED = "counted from 1"
_RIGHT_LAYER = "right layer, wrong head"
_ELSEWHERE = "it looks elsewhere"
_MISTAKEN_FOR = {"ahead": _AHEAD, "itself": _ITSELF, "[CLS]": _SPECIAL, "[SEP]": _SPECIAL}


def _describe(layer: int, head: int) -> str:
    profiles = head_profiles()
    shares = ", ".join(
        f"{100 * profiles[name][layer, head]:.0f} % {where}"
        for name, where in (
            ("back", "on the word before"),
            ("ahead", "on the next word"),
            ("itself", "on the word itself"),
            ("[CLS]", "on [CLS]"),
            ("[SEP]", "on [SEP]"),
        )
    )
    return f"On held-out sentences a word in layer {layer}, head {head} puts {shares}."


def _grade_head(answer: Any) -> Verdict:
    """Judge a (layer, head), or a function that scores the heads of one sentence's maps."""
    profiles = head_profiles()
    layers, heads = profiles["back"].shape
    right = best_head(profiles["back"])
    if callable(answer):
        answer = _head_of(answer, (layers, heads))
    layer, head = _as_pair(answer)
    if (layer, head) == right:
        return Verdict(True, f"Right. {_describe(layer, head)}")
    if (layer, head) == right[::-1]:
        return Verdict(False, mistake=_SWAPPED)
    if (layer - 1, head - 1) == right:
        return Verdict(False, mistake=_ONE_BASED)
    if not (0 <= layer < layers and 0 <= head < heads):
        return Verdict(
            False,
            f"({layer}, {head}) is no head: layers go from 0 to {layers - 1} and heads from 0 to "
            f"{heads - 1}.",
        )
    return Verdict(False, _describe(layer, head), mistake=_habit(layer, head, right[0]))


def _habit(layer: int, head: int, right_layer: int) -> str:
    """The mistake behind a head that is not the right one."""
    profiles = head_profiles()
    for name, mistake in _MISTAKEN_FOR.items():
        # No head of MiniLM looks mainly at the word itself or at [SEP]. Whoever searched for such
        # heads found one that does so more than others.
        if profiles[name][layer, head] >= min(0.5, 0.9 * profiles[name].max().item()):
            return mistake
    return _RIGHT_LAYER if layer == right_layer else _ELSEWHERE


def _head_of(score: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> tuple[int, int]:
    total = torch.zeros(shape)
    for maps in _held_out_maps():
        scores = torch.as_tensor(score(maps.clone()))
        if scores.shape != shape:
            raise ValueError(
                f"the function must return one score for each head, {shape}, from maps "
                f"(layers, heads, tokens, tokens); it returned {tuple(scores.shape)}"
            )
        total += scores
    return best_head(total)


def _as_pair(answer: Any) -> tuple[int, int]:
    pair = tuple(int(part) for part in answer)
    if len(pair) != 2:
        raise ValueError(f"expected two numbers, (layer, head), got {len(pair)}")
    return pair[0], pair[1]


FIND_HEAD = Exercise(
    id="02.previous_word_head",
    title="Find the head that looks one word back",
    reference=(0, 2),
    grade=_grade_head,
    mistakes=(
        Mistake(
            _AHEAD,
            (1, 8),
            "Rows ask, columns are asked. A head that looks back draws its line below the main "
            "diagonal, where the column's number is smaller than the row's.",
        ),
        Mistake(
            _ITSELF,
            (0, 8),
            "That is the main diagonal: row and column are the same word. You need the line "
            "below it.",
        ),
        Mistake(
            _SPECIAL,
            (4, 5),
            "In the explorer, its picture is one bright column. A head that has nothing to do in a "
            "sentence often rests there. You need a diagonal.",
        ),
        Mistake(
            _SWAPPED,
            (2, 0),
            "You have found it, but the answer is (layer, head): the layer comes first.",
        ),
        Mistake(
            _ONE_BASED,
            (1, 3),
            "You have found it, but layers and heads count from 0, as the explorer shows them.",
        ),
        Mistake(
            _RIGHT_LAYER,
            (0, 5),
            "You are in the right layer. Take the head whose line below the diagonal is unbroken "
            "and has a weight close to 1 in every row.",
        ),
        Mistake(
            _ELSEWHERE,
            (5, 9),
            "Take the mean of `maps[:, :, q, q - 1]` over the words of a few sentences: it is high "
            "only for heads that look back in all of them.",
        ),
    ),
)

# Count the parameters


def attention_parameters(d_model: int, num_heads: int, bias: bool = True) -> int:
    """W^Q, W^K, W^V and W^O with their biases. The number of heads does not matter."""
    return 4 * d_model * d_model + 4 * d_model * bias


def _parameter_cases() -> tuple[Case, ...]:
    return (
        Case((384, 12), label="MiniLM: width 384, 12 heads"),
        Case((768, 12), label="BERT-Base: width 768, 12 heads"),
        Case((512, 8, False), label="the 2017 paper: width 512, 8 heads, no biases"),
        Case((96, 16), label="width 96, 16 heads"),
        Case((6, 1), label="a single head"),
        Case((4, 4, False), label="heads of width 1, no biases"),
    )


COUNT = Exercise(
    id="02.count_parameters",
    title="Count the parameters",
    reference=attention_parameters,
    cases=_parameter_cases,
    mistakes=(
        Mistake(
            "W^O is not counted",
            lambda d_model, num_heads, bias=True: 3 * d_model * d_model + 3 * d_model * bias,
            "Queries, keys and values make three matrices. A fourth one mixes the heads' outputs.",
        ),
        Mistake(
            "every head counts as wide as the whole vector",
            lambda d_model, num_heads, bias=True: (
                3 * num_heads * (d_model * d_model + d_model * bias)
                + num_heads * d_model * d_model
                + d_model * bias
            ),
            "A head projects d_model numbers to d_model / num_heads. Write down the shape of one "
            "head's W^Q and multiply.",
        ),
        Mistake(
            "only one head is counted",
            lambda d_model, num_heads, bias=True: (
                3 * (d_model + bias) * (d_model // num_heads) + d_model * d_model + d_model * bias
            ),
            "You counted the projections of one head. There are num_heads of them.",
        ),
        Mistake(
            "the biases are forgotten",
            lambda d_model, num_heads, bias=True: 4 * d_model * d_model,
            "Each of the four linear layers adds one number per output, if `bias` is true.",
        ),
        Mistake(
            "the biases are always counted",
            lambda d_model, num_heads, bias=True: 4 * d_model * d_model + 4 * d_model,
            "The 2017 paper's projections have no biases: `bias=False` must give fewer.",
        ),
        Mistake(
            "W^O has no bias",
            lambda d_model, num_heads, bias=True: 4 * d_model * d_model + 3 * d_model * bias,
            "Compare with `MultiHeadAttention(6, 1).out.bias`.",
        ),
    ),
)

EXERCISES = (SPLIT_HEADS, MULTI_HEAD, MERGE_HEADS, FIND_HEAD, COUNT)
