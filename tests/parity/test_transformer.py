"""Our Transformer against transformers' Marian (post-norm) and torch.nn.Transformer (both)."""

import copy

import pytest
import torch
import transformers
from torch import nn

from tests.parity.honest import assert_inputs_matter, randomise, relative_difference
from zoo_lessons.layers import causal_mask, padding_mask
from zoo_lessons.models import Transformer, TransformerConfig
from zoo_lessons.models.transformer import Decoder, Encoder
from zoo_lessons.weights import from_torch, from_transformers

MARIAN = transformers.MarianConfig(
    vocab_size=61,
    d_model=40,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=5,
    decoder_attention_heads=5,
    encoder_ffn_dim=56,
    decoder_ffn_dim=56,
    activation_function="swish",
    scale_embedding=True,
    max_position_embeddings=37,
    pad_token_id=60,
    eos_token_id=3,
    decoder_start_token_id=60,
    dropout=0.2,
)


def marian(dtype):
    model = transformers.MarianMTModel(copy.deepcopy(MARIAN))
    model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(5))
    positions = copy.deepcopy(model.model.encoder.embed_positions.weight)
    randomise(model)
    for side in (model.model.encoder, model.model.decoder):  # the sinusoids are not trained
        side.embed_positions.weight.data.copy_(positions)
    return model.to(dtype)


def batch():
    generator = torch.Generator().manual_seed(2)
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return {
        "input_ids": torch.randint(0, 60, (3, 9), generator=generator),
        "attention_mask": mask,
        "decoder_input_ids": torch.randint(0, 60, (3, 6), generator=generator),
    }


# Marian keeps its sinusoids in float32, so float64 agrees to that precision only.
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_marian_same_output(dtype, bound):
    theirs = marian(dtype)
    ours, inputs = from_transformers(theirs), batch()
    with torch.no_grad():
        a, b = ours(**inputs), theirs(**inputs)
    assert relative_difference(a.logits, b.logits) <= bound
    real = inputs["attention_mask"].bool()
    memory, expected = a.encoder_last_hidden_state[real], b.encoder_last_hidden_state[real]
    assert relative_difference(memory, expected) <= bound


def test_marian_inputs_matter():
    ours, inputs = from_transformers(marian(torch.float64)), batch()
    changed = {
        "input_ids": (inputs["input_ids"] + 1) % 60,
        "attention_mask": torch.ones_like(inputs["attention_mask"]),
        "decoder_input_ids": (inputs["decoder_input_ids"] + 1) % 60,
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).logits, inputs, changed)


def test_marian_same_gradient():
    theirs = marian(torch.float64)
    ours, inputs = from_transformers(theirs), batch()
    for model in (ours, theirs):
        model(**inputs).logits.square().sum().backward()
    expected = theirs.model.shared.weight.grad
    assert relative_difference(ours.embedding.weight.grad, expected) <= 1e-6
    theirs_k = theirs.model.decoder.layers[0].encoder_attn.k_proj.weight.grad
    ours_k = ours.decoder.layers[0].cross_attention.kv.weight.grad.chunk(2)[0]
    assert relative_difference(ours_k, theirs_k) <= 1e-6


def test_marian_same_greedy_translation():
    theirs = marian(torch.float32)
    ours, inputs = from_transformers(theirs), batch()
    a = ours.generate(inputs["input_ids"], inputs["attention_mask"], max_new_tokens=7)
    b = theirs.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=7,
        num_beams=1,
        do_sample=False,
        forced_eos_token_id=None,
        bad_words_ids=None,
    )
    assert torch.equal(a, b)


def test_unsupported_marian_config():
    config = copy.deepcopy(MARIAN)
    config.scale_embedding = False
    with pytest.raises(ValueError, match="scale_embedding=False, expected True"):
        from_transformers(transformers.MarianMTModel(config))


def torch_reference(norm, config):
    sizes = dict(
        d_model=config.d_model,
        nhead=config.num_heads,
        dim_feedforward=config.d_ff,
        norm_first=norm == "pre",
        batch_first=True,
        dropout=0.0,
    )
    last = (lambda: nn.LayerNorm(config.d_model)) if norm == "pre" else (lambda: None)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**sizes), config.num_layers, last(), enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), config.num_layers, last())
    return randomise(encoder).double(), randomise(decoder, seed=1).double()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torch_same_stacks(norm):
    config = TransformerConfig(d_model=24, num_heads=3, d_ff=40, num_layers=2, norm=norm)
    their_encoder, their_decoder = torch_reference(norm, config)
    encoder = from_torch(Encoder(config).double(), their_encoder).eval()
    decoder = from_torch(Decoder(config).double(), their_decoder).eval()
    x, y = torch.randn(2, 7, 24, dtype=torch.float64), torch.randn(2, 5, 24, dtype=torch.float64)
    attention_mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    mask, hidden = padding_mask(attention_mask), attention_mask == 0
    with torch.no_grad():
        memory, expected_memory = encoder(x, mask), their_encoder(x, src_key_padding_mask=hidden)
        ours = decoder(y, expected_memory, causal_mask(5), mask)
        theirs = their_decoder(
            y, expected_memory, tgt_mask=~causal_mask(5), memory_key_padding_mask=hidden
        )
    assert relative_difference(memory[~hidden], expected_memory[~hidden]) <= 1e-9
    assert relative_difference(ours, theirs) <= 1e-9


@pytest.mark.parametrize(
    ("config", "millions"), [(TransformerConfig.base(), 63), (TransformerConfig.big(), 214)]
)
def test_published_sizes(config, millions):
    # Table 3 gives 65 M and 213 M. The exact vocabulary ("about 37000") is not published.
    with torch.device("meta"):
        count = sum(p.numel() for p in Transformer(config).parameters())
    assert round(count / 1e6) == millions
