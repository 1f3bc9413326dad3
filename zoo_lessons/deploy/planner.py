"""A training step on paper: memory, communication and time of every rank, before anything runs.

Sources: Rajbhandari et al., "ZeRO" (2019), section 3.1 (bytes of weights, gradients and Adam's
state); Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022),
section 4 (activations, counted anew here for our blocks with fused attention); Patarasuk and Yuan,
"Bandwidth Optimal All-reduce Algorithms" (2009) (what an all-reduce sends); Narayanan et al.,
"Efficient Large-Scale Language Model Training on GPU Clusters" (2021), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo_lessons.deploy.parallel import layers_of_stage
from zoo_lessons.deploy.timetables import Schedule, bubble_share
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.models.vit import ViTConfig


def vit_giant() -> ViTConfig:
    """ViT-G/14: Zhai et al., "Scaling Vision Transformers" (2021), table 2.

    The paper pools with an attention head and has no class token; ours has one, which is 257 tokens
    instead of 256.
    """
    return ViTConfig(patch_size=14, d_model=1664, num_layers=48, num_heads=16, d_ff=8192)


@dataclass(frozen=True)
class Precision:
    """Bytes for each parameter, and for each number of an activation."""

    weight: int
    gradient: int
    optimizer: int  # Adam: two moments, and in mixed precision a copy of the weights in float32
    activation: int


MIXED = Precision(weight=2, gradient=2, optimizer=12, activation=2)  # bfloat16, Adam in float32
FLOAT32 = Precision(weight=4, gradient=4, optimizer=8, activation=4)
FLOAT64 = Precision(weight=8, gradient=8, optimizer=16, activation=8)


@dataclass(frozen=True)
class Hardware:
    """What a device can do.

    Attributes:
        memory: bytes.
        flops: floating-point operations a second, at its best.
        share_of_flops: how much of that a training step is assumed to reach.
        inside, between: bytes a second that a device sends to others of its machine, and of other
            machines.
    """

    name: str
    memory: float
    flops: float
    share_of_flops: float
    inside: float
    between: float


# NVIDIA's data sheet of the A100 80GB SXM: 312 TFLOPS in bfloat16, NVLink 600 GB/s, which counts
# both directions. DGX A100's data sheet: one 200 Gb/s network port for each GPU. The share is an
# assumption; Megatron's reaches 0.44 to 0.52 (Narayanan et al. 2021, table 1).
A100 = Hardware("A100 80GB", 80e9, 312e12, 0.4, 300e9, 25e9)


@dataclass(frozen=True)
class RankPlan:
    """What one rank holds and sends in one step. All ranks of a stage are alike.

    Attributes:
        stage: of the pipeline, from 0.
        parameters: how many.
        weights, gradients, optimizer: bytes of them.
        activations: bytes that the blocks keep for the backward pass, at the worst moment.
        tensor_calls, tensor_bytes: all-reduces in the tensor group, and bytes put into them.
        pipeline_bytes: sent to neighbouring stages.
        data_bytes: of gradients, put into the data group's all-reduce.
    """

    stage: int
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    tensor_calls: int
    tensor_bytes: int
    pipeline_bytes: int
    data_bytes: int

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Times:
    """Seconds of one step. Nothing overlaps, so the sum is on the safe side."""

    compute: float
    bubble: float
    tensor: float
    pipeline: float
    data: float

    @property
    def total(self) -> float:
        return self.compute + self.bubble + self.tensor + self.pipeline + self.data


@dataclass(frozen=True)
class Plan:
    """A step of training, planned. See `plan`."""

    config: ViTConfig
    tensor: int
    pipeline: int
    data: int
    micro_batches: int
    images: int  # in a micro-batch, on one rank
    schedule: Schedule
    ranks: tuple[RankPlan, ...]  # one for each stage

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def batch(self) -> int:
        return self.images * self.micro_batches * self.data

    def times(self, hardware: Hardware, devices_in_a_machine: int = 8) -> Times:
        """How long a step takes on given hardware.

        The tensor group stays inside a machine; stages and data groups talk across machines as soon
        as all devices do not fit into one. A ring all-reduce of `n` ranks sends 2 (n - 1) / n of
        its bytes (Patarasuk and Yuan). The slowest stage counts.

        Raises:
            ValueError: the tensor group does not fit into a machine.
        """
        if self.tensor > devices_in_a_machine:
            raise ValueError(
                f"tensor={self.tensor}, expected at most devices_in_a_machine="
                f"{devices_in_a_machine}: the network would be too slow for its all-reduces"
            )
        outside = hardware.inside if self.devices <= devices_in_a_machine else hardware.between
        layers = len(layers_of_stage(self.config.num_layers, 0, self.pipeline))  # the most
        flops = 3 * layers * block_flops(self.config) * self.images * self.micro_batches
        compute = flops / self.tensor / (hardware.flops * hardware.share_of_flops)
        bubble = bubble_share(self.pipeline, self.micro_batches)
        return Times(
            compute=compute,
            bubble=compute * bubble / (1 - bubble),
            tensor=max(ring(r.tensor_bytes, self.tensor) for r in self.ranks) / hardware.inside,
            pipeline=max(r.pipeline_bytes for r in self.ranks) / outside,
            data=max(ring(r.data_bytes, self.data) for r in self.ranks) / outside,
        )


def plan(
    config: ViTConfig,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    data: int = 1,
    images: int,
    micro_batches: int = 1,
    schedule: Schedule = "GPipe",
    precision: Precision = MIXED,
) -> Plan:
    """Plan a training step with Adam on tensor × pipeline × data devices.

    Args:
        config: the model.
        tensor, pipeline, data: ranks that share a layer, stages, and copies of all that.
        images: in a micro-batch, for one copy.
        micro_batches: of one copy in a step.
        schedule: "GPipe" keeps the activations of all micro-batches, "1F1B" at most those of as
            many as there are stages from here to the end.
        precision: bytes for each number.

    Raises:
        ValueError: sizes that cannot be split so.
    """
    require_divisible(num_heads=config.num_heads, tensor=tensor)
    require_divisible(d_ff=config.d_ff, tensor=tensor)
    for name, value in (("data", data), ("images", images), ("micro_batches", micro_batches)):
        if value < 1:
            raise ValueError(f"{name}={value}, expected at least 1")
    ranks = []
    for stage in range(pipeline):
        layers = len(layers_of_stage(config.num_layers, stage, pipeline))
        parameters = stage_parameters(config, stage, pipeline, tensor)
        ahead = pipeline - stage if schedule == "1F1B" else micro_batches
        alive = min(ahead, micro_batches)
        hidden = images * tokens(config) * config.d_model * precision.activation
        calls = 0 if tensor == 1 else 4 * layers * micro_batches
        neighbours = (stage > 0) + (stage < pipeline - 1)
        ranks.append(
            RankPlan(
                stage=stage,
                parameters=parameters,
                weights=parameters * precision.weight,
                gradients=parameters * precision.gradient,
                optimizer=parameters * precision.optimizer,
                activations=alive * layers * block_activations(config, tensor, precision) * images,
                tensor_calls=calls,
                tensor_bytes=calls * hidden,
                pipeline_bytes=neighbours * micro_batches * hidden,
                data_bytes=0 if data == 1 else parameters * precision.gradient,
            )
        )
    return Plan(config, tensor, pipeline, data, micro_batches, images, schedule, tuple(ranks))


def tokens(config: ViTConfig) -> int:
    """Patches and the class token."""
    return (config.image_size // config.patch_size) ** 2 + 1


def block_parameters(config: ViTConfig, tensor: int = 1) -> int:
    """One rank's part of a block: its share of four matrices, and all of what is not split."""
    d, d_ff = config.d_model, config.d_ff
    split = 3 * d * d + 3 * d + d * d + d * d_ff + d_ff + d_ff * d  # q, k, v; out; up; down
    whole = d + d + 2 * 2 * d  # biases of out and down, two LayerNorms
    return split // tensor + whole


def stage_parameters(config: ViTConfig, stage: int, stages: int, tensor: int = 1) -> int:
    """One rank's parameters: its layers, and the embeddings or the head if it has them."""
    d = config.d_model
    count = len(layers_of_stage(config.num_layers, stage, stages)) * block_parameters(
        config, tensor
    )
    if stage == 0:
        pixels = config.num_channels * config.patch_size**2
        count += pixels * d + d + d + tokens(config) * d  # patches, class token, positions
    if stage == stages - 1:
        count += 2 * d + d * config.num_labels + config.num_labels  # LayerNorm, classifier
    return count


def block_activations(config: ViTConfig, tensor: int, precision: Precision) -> int:
    """Bytes that one rank's part of a pre-norm block keeps of one image for the backward pass.

    For each token, in multiples of d_model: on every rank the inputs of the two LayerNorms and
    their outputs (4), and four numbers, the means and scales; of what is split, q, k and v (3),
    what the heads found (1), and d_ff both before and after the activation. The fused attention
    keeps one number for each query and head instead of all weights.
    """
    d, d_ff = config.d_model, config.d_ff
    whole = 4 * d + 4
    split = 4 * d + 2 * d_ff + config.num_heads
    return tokens(config) * (whole + split // tensor) * precision.activation


def block_flops(config: ViTConfig) -> int:
    """Floating-point operations of a block's forward pass for one image; backward takes twice that.

    Two for each weight and token; and scores and their use, two products of n × n × d_model.
    """
    d, n = config.d_model, tokens(config)
    return 2 * n * (4 * d * d + 2 * d * config.d_ff) + 4 * n * n * d


def ring(sent: float, ranks: int) -> float:
    """Bytes that a rank really sends for an all-reduce of so many bytes, in a ring."""
    return 2 * (ranks - 1) / ranks * sent
