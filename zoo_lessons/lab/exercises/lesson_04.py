"""Exercises of lesson 04: LayerNorm, the post-norm block, teacher forcing, a leaking decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.models.transformer import Transformer, TransformerConfig

PAD, BOS, EOS = 0, 1, 2
IGNORE = -100  # cross_entropy skips targets with this value


# --- LayerNorm -----------------------------------------------------------------------------------


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + eps) * gain + bias


def _norm_unbiased(x, gain, bias, eps=1e-5):
    variance = x.var(dim=-1, keepdim=True)
    return (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + eps) * gain + bias


def _norm_over_tokens(x, gain, bias, eps=1e-5):
    variance = x.var(dim=1, keepdim=True, unbiased=False)
    return (x - x.mean(dim=1, keepdim=True)) / torch.sqrt(variance + eps) * gain + bias


def _norm_by_variance(x, gain, bias, eps=1e-5):
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    return (x - x.mean(dim=-1, keepdim=True)) / (variance + eps) * gain + bias


def _norm_eps_outside(x, gain, bias, eps=1e-5):
    deviation = x.std(dim=-1, keepdim=True, unbiased=False)
    return (x - x.mean(dim=-1, keepdim=True)) / (deviation + eps) * gain + bias


def _norm_without_gain(x, gain, bias, eps=1e-5):
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    return (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + eps)


def _norm_without_mean(x, gain, bias, eps=1e-5):
    return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * gain + bias


def _norm_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return shift + scale * values

    gain, bias = random(6, shift=1.0), random(6)
    return (
        Case((random(2, 3, 6), gain, bias), label="2 sentences of 3 tokens, width 6"),
        Case((random(1, 6, 6, scale=3, shift=5), gain, bias), label="tokens far from zero"),
        Case((random(2, 4, 6, scale=1e-3), gain, bias), label="tiny numbers, where eps counts"),
        Case((random(3, 2, 6), gain, bias, 0.1), label="a large eps"),
    )


# --- the post-norm block -------------------------------------------------------------------------


def post_norm_block(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


def _pre_norm_block(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def _no_residual(x, attention, feed_forward, norm1, norm2):
    return norm2(feed_forward(norm1(attention(x))))


def _norm_inside_sum(x, attention, feed_forward, norm1, norm2):
    x = x + norm1(attention(x))
    return x + norm2(feed_forward(x))


def _residual_from_the_start(x, attention, feed_forward, norm1, norm2):
    y = norm1(x + attention(x))
    return norm2(x + feed_forward(y))


def _norm_used_twice(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm1(x + feed_forward(x))


def _feed_forward_without_residual(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(feed_forward(x))


def _block_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def linear(width: int) -> nn.Linear:
        layer = nn.Linear(width, width)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / width**0.5)
        return layer

    def norm(width: int) -> nn.LayerNorm:
        layer = nn.LayerNorm(width)
        with torch.no_grad():
            layer.weight.copy_(1 + 0.3 * torch.randn(width, generator=generator))
            layer.bias.copy_(0.3 * torch.randn(width, generator=generator))
        return layer

    def case(label: str, batch: int, length: int, width: int) -> Case:
        x = torch.randn(batch, length, width, generator=generator)
        return Case((x, linear(width), linear(width), norm(width), norm(width)), label=label)

    # Any function of x stands in for the sub-layers: the exercise is about how they are joined.
    return (
        case("2 sentences of 5 tokens", 2, 5, 8),
        case("one token", 1, 1, 4),
    )


# --- teacher forcing -----------------------------------------------------------------------------


def teacher_forcing(target_ids: Tensor) -> tuple[Tensor, Tensor]:
    decoder_input_ids = target_ids[:, :-1]
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == PAD, IGNORE)
    return decoder_input_ids, labels


def _forcing_no_shift(target_ids):
    return target_ids, target_ids.masked_fill(target_ids == PAD, IGNORE)


def _forcing_wrong_way(target_ids):
    return target_ids[:, 1:], target_ids[:, :-1].masked_fill(target_ids[:, :-1] == PAD, IGNORE)


def _forcing_counts_padding(target_ids):
    return target_ids[:, :-1], target_ids[:, 1:].clone()


def _forcing_ignores_eos(target_ids):
    labels = target_ids[:, 1:].clone()
    return target_ids[:, :-1], labels.masked_fill((labels == PAD) | (labels == EOS), IGNORE)


def _forcing_wraps(target_ids):
    labels = target_ids.roll(-1, dims=1)
    return target_ids, labels.masked_fill(labels == PAD, IGNORE)


def _forcing_cases() -> tuple[Case, ...]:
    padded = torch.tensor([[BOS, 7, 8, 9, EOS], [BOS, 5, EOS, PAD, PAD]])
    same_length = torch.tensor([[BOS, 4, 6, EOS], [BOS, 9, 3, EOS], [BOS, 3, 3, EOS]])
    return (
        Case((padded,), label="a long and a short sentence"),
        Case((same_length,), label="no padding"),
        Case((torch.tensor([[BOS, EOS, PAD]]),), label="an empty sentence"),
    )


# --- find the bug --------------------------------------------------------------------------------


def next_token_logits(model, input_ids, attention_mask, decoder_input_ids):
    memory = model.encode(input_ids, attention_mask)
    hidden = model.decode(decoder_input_ids, memory, attention_mask)
    return model.logits(hidden[:, -1])


def leaking_next_token_logits(model, input_ids, attention_mask, decoder_input_ids):
    memory = model.encode(input_ids, attention_mask)
    hidden = model.decode(decoder_input_ids, memory)
    return model.logits(hidden[:, -1])


def _mask_in_decoder_only(model, input_ids, attention_mask, decoder_input_ids):
    hidden = model.decode(decoder_input_ids, model.encode(input_ids), attention_mask)
    return model.logits(hidden[:, -1])


def _no_masks(model, input_ids, attention_mask, decoder_input_ids):
    hidden = model.decode(decoder_input_ids, model.encode(input_ids))
    return model.logits(hidden[:, -1])


def _first_position(model, input_ids, attention_mask, decoder_input_ids):
    memory = model.encode(input_ids, attention_mask)
    return model.logits(model.decode(decoder_input_ids, memory, attention_mask)[:, 0])


def _all_positions(model, input_ids, attention_mask, decoder_input_ids):
    memory = model.encode(input_ids, attention_mask)
    return model.logits(model.decode(decoder_input_ids, memory, attention_mask))


def _logits_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)
    config = TransformerConfig(
        vocab_size=30, target_vocab_size=20, d_model=16, num_layers=2, num_heads=4, d_ff=32
    )
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def ids(batch: int, length: int, size: int) -> Tensor:
        return torch.randint(3, size, (batch, length), generator=generator)

    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = mask[2, 2:] = 0
    one = torch.ones(1, 5, dtype=torch.long)
    return (
        Case((model, ids(3, 7, 30), mask, ids(3, 4, 20)), label="sentences of 7, 4 and 2 tokens"),
        Case((model, ids(1, 5, 30), one, ids(1, 3, 20)), label="one sentence, no padding"),
    )


EXERCISES = (
    Exercise(
        id="04.layer_norm",
        title="LayerNorm",
        reference=layer_norm,
        cases=_norm_cases,
        mistakes=(
            Mistake(
                "the variance divides by n - 1",
                _norm_unbiased,
                "`Tensor.var` divides by n - 1 unless told otherwise. LayerNorm divides by n: it "
                "describes these numbers, it does not estimate a larger population.",
            ),
            Mistake(
                "normalised over the tokens",
                _norm_over_tokens,
                "Each token is normalised by itself, over its own width. Print the shape of your "
                "mean: there should be one number per token.",
            ),
            Mistake(
                "divided by the variance",
                _norm_by_variance,
                "Divide by the standard deviation, the square root of the variance. Test: the "
                "result should not change when x is multiplied by 10.",
            ),
            Mistake(
                "eps outside the square root",
                _norm_eps_outside,
                "The formula adds eps to the variance, before the root. With tiny numbers the two "
                "differ by much.",
            ),
            Mistake(
                "gain and bias are missing",
                _norm_without_gain,
                "After the division come the two trained vectors: multiply by `gain`, add `bias`.",
            ),
            Mistake(
                "the mean is not subtracted",
                _norm_without_mean,
                "This is RMSNorm, which many later models use. LayerNorm first subtracts the mean.",
            ),
        ),
    ),
    Exercise(
        id="04.post_norm_block",
        title="An encoder block",
        reference=post_norm_block,
        cases=_block_cases,
        mistakes=(
            Mistake(
                "pre-norm instead of post-norm",
                _pre_norm_block,
                "That is x + f(LN(x)), the pre-norm block. The 2017 paper has LN(x + f(x)): add "
                "first, then normalise.",
            ),
            Mistake(
                "no residual connections",
                _no_residual,
                "The input of each sub-layer is added to its output. Where is x in your sums?",
            ),
            Mistake(
                "the norm is inside the sum",
                _norm_inside_sum,
                "You computed x + LN(f(x)). The norm takes the sum: LN(x + f(x)).",
            ),
            Mistake(
                "the second residual starts from the block's input",
                _residual_from_the_start,
                "The feed-forward's residual adds the feed-forward's own input, which is the "
                "output of the first half.",
            ),
            Mistake(
                "the first norm is used twice",
                _norm_used_twice,
                "Each sub-layer has its own LayerNorm with its own gain and bias.",
            ),
            Mistake(
                "the feed-forward has no residual",
                _feed_forward_without_residual,
                "Both sub-layers have a residual connection, not only attention.",
            ),
        ),
    ),
    Exercise(
        id="04.teacher_forcing",
        title="Teacher forcing",
        reference=teacher_forcing,
        cases=_forcing_cases,
        mistakes=(
            Mistake(
                "no shift",
                _forcing_no_shift,
                "The decoder sees the very token it should predict. Its loss falls to zero, and it "
                "learns to copy.",
            ),
            Mistake(
                "shifted the wrong way",
                _forcing_wrong_way,
                "Your model would have to predict the previous token. Labels are one step *ahead* "
                "of the inputs.",
            ),
            Mistake(
                "padding is a label",
                _forcing_counts_padding,
                "Where the target is [PAD], the label must be -100, which the loss skips. "
                "Otherwise the model is trained to write padding.",
            ),
            Mistake(
                "EOS is not a label",
                _forcing_ignores_eos,
                "The model must learn to stop: [EOS] stays a label. Only [PAD] is skipped.",
            ),
            Mistake(
                "the sentence wraps around",
                _forcing_wraps,
                "`roll` moves [BOS] to the end, as a label of the last token. Cut instead: inputs "
                "and labels are one token shorter than the target.",
            ),
        ),
    ),
    Exercise(
        id="04.padding_bug",
        title="Find the bug: fine alone, wrong in company",
        reference=next_token_logits,
        start=leaking_next_token_logits,
        cases=_logits_cases,
        mistakes=(
            Mistake(
                "the mask went to the decoder and left the encoder",
                _mask_in_decoder_only,
                "Now cross-attention skips the padding, but the encoder mixes it into every real "
                "token before. Both need the mask.",
            ),
            Mistake(
                "no mask at all",
                _no_masks,
                "Padding now leaks in two places. The encoder had its mask; another call lacks it.",
            ),
            Mistake(
                "logits of the first position",
                _first_position,
                "The next token is predicted at the *last* position of the decoder.",
            ),
            Mistake(
                "logits of all positions",
                _all_positions,
                "The function returns one row of logits per sentence: (batch, vocabulary).",
            ),
        ),
        praise="Each sentence now gets the same logits alone and in a batch.",
    ),
)
