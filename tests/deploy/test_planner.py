"""The planner on paper: counts against real models, and the rules of thumb that it must obey."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.deploy.parallel import ViTStage
from zoo_lessons.deploy.parallel_run import KeptBytes
from zoo_lessons.deploy.planner import (
    A100,
    FLOAT32,
    FLOAT64,
    MIXED,
    block_activations,
    block_flops,
    plan,
    ring,
    stage_parameters,
    tokens,
    vit_giant,
)
from zoo_lessons.layers.attention import record_attention
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.models.vit import ViT, ViTConfig

CONFIG = ViTConfig(
    image_size=12, patch_size=4, d_model=24, num_layers=5, num_heads=3, d_ff=60, num_labels=7
)


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_parameters_are_counted_as_in_the_model(stages):
    model = ViT(CONFIG)
    for stage in range(stages):
        real = sum(p.numel() for p in ViTStage(model, stage, stages).parameters())
        assert stage_parameters(CONFIG, stage, stages) == real


def test_the_giant_has_its_published_size():
    config = vit_giant()
    with torch.device("meta"):
        real = sum(p.numel() for p in ViT(config).parameters())
    assert stage_parameters(config, 0, 1) == real
    assert real == pytest.approx(1843e6, rel=0.005)  # Zhai et al. (2021), table 2
    assert tokens(config) == 257


@pytest.mark.parametrize(("dtype", "precision"), [("float32", FLOAT32), ("float64", FLOAT64)])
@pytest.mark.parametrize("images", [1, 3])
def test_a_blocks_activations_are_counted_as_in_a_run(dtype, precision, images):
    block = EncoderBlock(24, 3, 60, norm="pre", activation="gelu").to(getattr(torch, dtype))
    kept = KeptBytes(block)
    kept.watch(block)
    x = torch.randn(images, tokens(CONFIG), 24, dtype=getattr(torch, dtype), requires_grad=True)
    y = block(x)
    assert kept.now == kept.peak == images * block_activations(CONFIG, 1, precision)
    y.sum().backward()
    del y
    assert kept.now == 0


def test_flops_are_those_that_pytorch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    block = EncoderBlock(24, 3, 60, norm="pre", activation="gelu").eval()
    # Recorded attention writes its products out; the counter does not know the CPU's fused kernel.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), record_attention(block):
        block(torch.randn(1, tokens(CONFIG), 24))
    assert block_flops(CONFIG) == counter.get_total_flops()


def test_memory_of_mixed_precision_is_16_bytes_a_parameter():
    rank = plan(CONFIG, images=1).ranks[0]
    assert rank.weights + rank.gradients + rank.optimizer == 16 * rank.parameters
    assert rank.memory == 16 * rank.parameters + rank.activations
    assert (rank.tensor_calls, rank.tensor_bytes, rank.pipeline_bytes, rank.data_bytes) == (0,) * 4


def test_what_is_sent():
    config = ViTConfig(**{**vars(CONFIG), "num_heads": 4, "num_layers": 6})
    found = plan(config, tensor=2, pipeline=3, data=4, images=2, micro_batches=5)
    hidden = 2 * tokens(config) * 24 * 2  # images × tokens × d_model × bytes
    assert [rank.tensor_calls for rank in found.ranks] == [2 * 4 * 5] * 3
    assert [rank.tensor_bytes for rank in found.ranks] == [2 * 4 * 5 * hidden] * 3
    assert [rank.pipeline_bytes for rank in found.ranks] == [5 * hidden, 10 * hidden, 5 * hidden]
    assert found.ranks[1].data_bytes == 2 * found.ranks[1].parameters
    assert (found.devices, found.batch) == (24, 40)
    assert ring(100, 4) == 150
    assert ring(100, 1) == 0


def test_1f1b_keeps_fewer_micro_batches():
    alive = {}
    for schedule in ("GPipe", "1F1B"):
        ranks = plan(CONFIG, pipeline=5, images=1, micro_batches=8, schedule=schedule).ranks
        one = block_activations(CONFIG, 1, MIXED)
        alive[schedule] = [rank.activations // one for rank in ranks]
    assert alive == {"GPipe": [8] * 5, "1F1B": [5, 4, 3, 2, 1]}


def test_times_follow_the_hardware():
    config = vit_giant()
    alone = plan(config, images=8, micro_batches=16).times(A100)
    assert (alone.bubble, alone.tensor, alone.pipeline, alone.data) == (0, 0, 0, 0)
    # 48 blocks × 128 images, forward and twice that backward, at two fifths of the best speed
    assert alone.total == pytest.approx(3 * 48 * 128 * block_flops(config) / (0.4 * 312e12))
    mesh = plan(config, tensor=2, pipeline=2, images=8, micro_batches=16).times(A100)
    assert mesh.compute == pytest.approx(alone.compute / 4)
    assert mesh.bubble == pytest.approx(mesh.compute / 16)
    near = plan(config, pipeline=8, images=8, micro_batches=16).times(A100)
    far = plan(config, pipeline=8, images=8, micro_batches=16).times(A100, devices_in_a_machine=4)
    assert far.pipeline == pytest.approx(near.pipeline * A100.inside / A100.between)


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ValueError, match="num_heads=3 must be divisible by tensor=2"):
        plan(CONFIG, tensor=2, images=1)
    with pytest.raises(ValueError, match="stage=0 of stages=6"):
        plan(CONFIG, pipeline=6, images=1)
    with pytest.raises(ValueError, match="images=0"):
        plan(CONFIG, images=0)
    with pytest.raises(ValueError, match="tensor=16"):
        plan(vit_giant(), tensor=16, images=1).times(A100)
