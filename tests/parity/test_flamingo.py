"""Our resampler and gated block against Idefics' own modules in transformers."""

import copy

import pytest
import torch
import transformers
from torch import nn
from transformers.models.idefics.modeling_idefics import (
    IdeficsGatedCrossAttentionLayer,
    IdeficsRMSNorm,
)
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from tests.parity.honest import assert_inputs_matter, randomise, relative_difference
from zoo_lessons.models.flamingo import GatedCrossAttention, PerceiverResampler, image_mask
from zoo_lessons.weights import load_renamed

CONFIG = transformers.IdeficsConfig(
    vocab_size=37,
    hidden_size=24,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=3,
    hidden_act="gelu_new",
    rms_norm_eps=1e-3,
    dropout=0.1,
    alpha_initializer="zeros",
    alpha_type="vector",
    qk_layer_norms=True,
    vision_config={"embed_dim": 20, "num_attention_heads": 4},
    perceiver_config={"qk_layer_norms_perceiver": True},
    attn_implementation="sdpa",
)
LATENTS, IMAGES = 5, 3
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def in_their_precision(module):
    """Replace their RMSNorm, which always takes the variance in float32, by PyTorch's own."""
    for name, child in list(module.named_children()):
        if isinstance(child, IdeficsRMSNorm):
            norm = nn.RMSNorm(child.weight.shape, child.variance_epsilon)
            norm.weight = child.weight
            setattr(module, name, norm)
        else:
            in_their_precision(child)
    return module


def config(**changes):
    result = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def resamplers(dtype, qk_norm):
    theirs = config()
    theirs.perceiver_config.qk_layer_norms_perceiver = qk_norm
    theirs = IdeficsPerceiverResampler(
        theirs, embed_dim=20, depth=2, n_heads=3, head_dim=7, n_latents=LATENTS
    )
    theirs = randomise(theirs, scale=0.4).to(dtype)
    ours = PerceiverResampler(
        20, 3, 2, LATENTS, head_dim=7, d_ff=80, activation="relu", qk_norm=qk_norm
    ).to(dtype)
    return load_renamed(ours, theirs.state_dict()).eval(), theirs


def gated_blocks(dtype, *, qk_norm=True, gate="channel"):
    alpha = {"channel": "vector", "scalar": "float"}[gate]
    theirs = IdeficsGatedCrossAttentionLayer(
        config(qk_layer_norms=qk_norm, alpha_type=alpha), layer_idx=0
    )
    theirs = randomise(theirs, scale=0.4).to(dtype)
    if dtype == torch.float64:
        in_their_precision(theirs)
    ours = GatedCrossAttention(
        24,
        3,
        44,
        20,
        activation="gelu_new",
        glu=True,
        norm="rms",
        qk_norm=qk_norm,
        gate=gate,
        eps=1e-3,
    ).to(dtype)
    return load_renamed(ours, theirs.state_dict()).eval(), theirs


def text_and_latents(dtype):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, 24, generator=generator, dtype=torch.float64).to(dtype)
    latents = torch.randn(2, IMAGES * LATENTS, 20, generator=generator, dtype=torch.float64)
    is_image = torch.zeros(2, 9, dtype=torch.bool)
    is_image[0, [2, 3, 6]] = True  # two words come before the first image
    is_image[1, [0, 5]] = True  # the third image of this row is filled up
    return x, latents.to(dtype), image_mask(is_image, IMAGES)


def run_theirs(theirs, x, latents, images):
    mask = images.repeat_interleave(LATENTS, dim=-1)[:, None]
    lowest = torch.finfo(x.dtype).min
    return theirs(
        x,
        image_hidden_states=latents,
        image_attention_mask=torch.zeros(mask.shape, dtype=x.dtype).masked_fill(~mask, lowest),
        cross_attention_gate=images.any(dim=-1).to(x.dtype),
    )


def run_ours(ours, x, latents, images):
    return ours(x, latents, images.repeat_interleave(LATENTS, dim=-1)[:, None])


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), PRECISIONS)
def test_same_resampler(dtype, bound, qk_norm):
    ours, theirs = resamplers(dtype, qk_norm)
    for patches in (1, 11):
        context = torch.randn(3, patches, 20, generator=torch.Generator().manual_seed(patches))
        with torch.no_grad():
            assert relative_difference(ours(context.to(dtype)), theirs(context.to(dtype))) <= bound


@pytest.mark.parametrize("gate", ["scalar", "channel"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), PRECISIONS)
def test_same_gated_block(dtype, bound, qk_norm, gate):
    ours, theirs = gated_blocks(dtype, qk_norm=qk_norm, gate=gate)
    batch = text_and_latents(dtype)
    with torch.no_grad():
        assert relative_difference(run_ours(ours, *batch), run_theirs(theirs, *batch)) <= bound


def test_inputs_matter():
    resampler, _ = resamplers(torch.float64, True)
    ours, _ = gated_blocks(torch.float64)
    x, latents, images = text_and_latents(torch.float64)
    inputs = {"x": x, "latents": latents, "images": images}
    changed = {"x": x.flip(1), "latents": latents.flip(1), "images": images.flip(-1)}
    with torch.no_grad():
        assert_inputs_matter(lambda **batch: run_ours(ours, **batch), inputs, changed)
        assert_inputs_matter(
            lambda patches: resampler(patches), {"patches": latents}, {"patches": latents.flip(-1)}
        )
        gates = (ours.attention_gate, ours.feed_forward_gate)
        before = run_ours(ours, *inputs.values())
        for gate in gates:
            kept = gate.clone()
            gate.zero_()
            assert (run_ours(ours, *inputs.values()) - before).abs().max() > 1e-2
            gate.copy_(kept)


def test_same_gradient():
    ours, theirs = resamplers(torch.float64, True)
    context = torch.randn(3, 11, 20, dtype=torch.float64)
    for model in (ours, theirs):
        model(context).square().sum().backward()
    first, second = ours.blocks[0], theirs.blocks[0]
    for a, b in [
        (ours.latents, theirs.latents),
        (first.attention.q.weight, second[0].q_proj.weight),
        (first.patches_norm.bias, second[0].context_layer_norm.bias),
        (first.feed_forward.down.weight, second[1].c_proj.weight),
    ]:
        assert relative_difference(a.grad, b.grad) <= 1e-9

    ours, theirs = gated_blocks(torch.float64)
    batch = text_and_latents(torch.float64)
    run_ours(ours, *batch).square().sum().backward()
    run_theirs(theirs, *batch).square().sum().backward()
    for a, b in [
        (ours.attention_gate, theirs.alpha_cross_attn),
        (ours.feed_forward_gate, theirs.alpha_dense),
        (ours.attention.q.weight, theirs.cross_attn.q_proj.weight),
        (ours.norm1.weight, theirs.input_layernorm.weight),
        (ours.feed_forward.gate.weight, theirs.mlp.gate_proj.weight),
    ]:
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_their_gates_start_at_zero_too():
    """Without random weights, parity would show nothing: the images do not reach the output."""
    theirs = IdeficsGatedCrossAttentionLayer(config(), layer_idx=0).eval()
    x, latents, images = text_and_latents(torch.float32)
    with torch.no_grad():
        assert torch.equal(run_theirs(theirs, x, latents, images), x)
        assert torch.equal(run_ours(GatedCrossAttention(24, 3, 44, 20), x, latents, images), x)
