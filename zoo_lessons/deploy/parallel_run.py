"""Trials of parallelism on real processes: each compares with one process that does it all.

Lessons and tests call `launch`. By hand, on four CPU cores or four GPUs of one machine:

    torchrun --standalone --nproc-per-node=4 -m zoo_lessons.deploy.parallel_run mesh --out mesh.json

and on each of two machines with two GPUs:

    torchrun --nnodes=2 --nproc-per-node=2 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 \\
        -m zoo_lessons.deploy.parallel_run mesh --out mesh.json

Processes talk by NCCL where each has a GPU of its own, and by gloo otherwise.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.deploy.parallel import (
    Team,
    ViTStage,
    average_gradients,
    qkv_outputs,
)
from zoo_lessons.deploy.planner import FLOAT64, plan, tokens
from zoo_lessons.deploy.timetables import Schedule
from zoo_lessons.models.vit import ViT, ViTConfig

SMALL = ViTConfig(
    image_size=16, patch_size=4, d_model=32, num_layers=4, num_heads=4, d_ff=96, num_labels=10
)
IMAGES, MICRO_BATCHES, STEPS, RATE = 8, 4, 3, 1e-3
WORK, WAITING_MICRO_BATCHES = 0.24, (1, 2, 4, 8)  # seconds of a stage for a whole batch
LIMIT = 300  # seconds


# --- starting processes --------------------------------------------------------------------------


def launch(
    trials: Sequence[str], processes: int = 4, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run trials under torchrun, in new processes on this machine, and return what they found.

    Args:
        trials: keys of `TRIALS`.
        processes: how many; each gets one thread.
        options: keyword arguments for the trials.

    Returns:
        For each trial its result; see the trials.

    Raises:
        ValueError: there is no such trial.
        RuntimeError: a process failed, or they took longer than five minutes.
    """
    unknown = [name for name in trials if name not in TRIALS]
    if unknown:
        raise ValueError(f"unknown trials {unknown}, expected some of {', '.join(TRIALS)}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
        command += ["-m", "zoo_lessons.deploy.parallel_run", *trials, "--out", str(out)]
        command += ["--options", json.dumps(options or {})]
        # Without the interface's name gloo asks for this machine's name, which may have no address.
        loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        env |= {"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {}
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{processes} processes did not end in {LIMIT} s") from error
        if done.returncode or not out.exists():
            # What our processes say, before what torchrun says about them.
            said = [line for line in done.stderr.splitlines() if line.startswith("[rank")]
            problem = "\n".join(said) or done.stderr
            raise RuntimeError(f"torchrun failed ({done.returncode}):\n{problem[-4000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """What each process runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("trials", nargs="+", choices=list(TRIALS))
    parser.add_argument("--out", help="the first process writes what was found to this file")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, for the trials")
    chosen = parser.parse_args(arguments)
    local = int(os.environ["LOCAL_RANK"])
    on_gpus = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", local) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        found = {name: TRIALS[name](device, **chosen.options) for name in chosen.trials}
        if dist.get_rank() == 0:
            text = json.dumps(found, indent=1)
            if chosen.out:
                Path(chosen.out).write_text(text, encoding="utf-8")
            else:
                print(text)
    finally:
        dist.destroy_process_group()


# --- what to compare with ------------------------------------------------------------------------


@dataclass
class Whole:
    """The model in one process: a batch's logits, loss and gradients."""

    model: ViT  # its parameters have gradients
    images: Tensor  # (batch, channels, height, width)
    labels: Tensor  # (batch)
    logits: Tensor  # (batch, num_labels)
    loss: float


def whole(device: torch.device, images: int = IMAGES, config: ViTConfig = SMALL) -> Whole:
    """The same model and images in each process, in float64, so that only real errors are seen."""
    torch.manual_seed(0)
    model = ViT(config).double()
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which hides mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.to(device)
    x = torch.randn(images, 3, config.image_size, config.image_size, dtype=torch.float64)
    y = torch.randint(config.num_labels, (images,))
    x, y = x.to(device), y.to(device)
    logits = model(x).logits
    loss = F.cross_entropy(logits, y)
    loss.backward()
    return Whole(model, x, y, logits.detach(), loss.item())


def gradients_as_model(model: ViT) -> ViT:
    """A model whose parameters are this one's gradients: what is done to it is done to them."""
    found = copy.deepcopy(model)
    for own, other in zip(found.parameters(), model.parameters(), strict=True):
        own.data = other.grad.clone()
    return found


def difference(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def gradient_difference(part: nn.Module, expected: nn.Module) -> float:
    """The largest difference between a part's gradients and another part's parameters."""
    wanted = dict(expected.named_parameters())
    found = dict(part.named_parameters())
    if wanted.keys() != found.keys():
        raise ValueError(f"parameters differ: {sorted(wanted.keys() ^ found.keys())}")
    return max(difference(p.grad, wanted[name]) for name, p in found.items())


def everywhere(value: Any) -> list[Any]:
    """What all processes say, in the order of their ranks."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


class KeptBytes:
    """Bytes that blocks keep for the backward pass: now, and at the worst moment.

    Tensors that share memory count once, parameters not at all.
    """

    def __init__(self, model: nn.Module):
        self.now = self.peak = 0
        self._users: Counter[int] = Counter()
        self._parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def watch(self, block: nn.Module) -> None:
        """Count what this block's forward passes keep, from now on."""
        forward = block.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor):
                return forward(*args, **kwargs)

        block.forward = counted

    def _keep(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor.detach())
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self._parameters:
            self.now += size if not self._users[address] else 0
            self._users[address] += 1
            self.peak = max(self.peak, self.now)
            weakref.finalize(kept, self._drop, address, size)
        return kept

    def _drop(self, address: int, size: int) -> None:
        self._users[address] -= 1
        self.now -= size if not self._users[address] else 0


@dataclass(eq=False)
class _Kept:
    tensor: Tensor


# --- trials --------------------------------------------------------------------------------------


def tensor_trial(device: torch.device, **_: Any) -> dict[str, Any]:
    """All processes share every layer, split by hand.

    Returns:
        "output", "gradients": largest relative differences from one process; "calls", "bytes":
        all-reduces forward and backward, and bytes that a process put into them; "parameters" of a
        process and of the whole model.
    """
    one, team = whole(device), Team()
    part = ViTStage(one.model, 0, 1, team)
    logits = part(one.images)
    forward_calls = team.calls
    F.cross_entropy(logits, one.labels).backward()
    calls, sent = team.calls, team.bytes
    expected = ViTStage(gradients_as_model(one.model), 0, 1, team)
    return {
        "processes": team.size,
        "output": max(everywhere(difference(logits, one.logits))),
        "gradients": max(everywhere(gradient_difference(part, expected))),
        "calls": {"forward": forward_calls, "backward": calls - forward_calls},
        "bytes": sent,
        "parameters": count(part),
        "whole": count(one.model),
    }


def dtensor_trial(device: torch.device, **_: Any) -> dict[str, Any]:
    """The same by PyTorch's own tools: weights become DTensors, and a plan says how they are split.

    Returns:
        "output", "gradients": as in `tensor_trial`; "calls": all-reduces that PyTorch counted;
        "layout": how the first block's matrices are split.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.debug import CommDebugMode
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    one, size = whole(device), dist.get_world_size()
    model = copy.deepcopy(one.model)
    model.zero_grad()
    heads, d_model = model.config.num_heads, model.config.d_model
    # ColwiseParallel hands out neighbouring rows of the weight. So put each process's queries, keys
    # and values next to each other first.
    order = torch.cat([qkv_outputs(heads, d_model // heads, r, size) for r in range(size)])
    for layer in model.layers:
        qkv = layer.attention.qkv
        qkv.weight.data, qkv.bias.data = qkv.weight.data[order], qkv.bias.data[order]
        layer.attention.num_heads = heads // size
    mesh = init_device_mesh(device.type, (size,))
    parallelize_module(
        model,
        mesh,
        {
            "layers.*.attention.qkv": ColwiseParallel(),
            "layers.*.attention.out": RowwiseParallel(),
            "layers.*.feed_forward.up": ColwiseParallel(),
            "layers.*.feed_forward.down": RowwiseParallel(),
        },
    )
    with CommDebugMode() as forward:
        logits = model(one.images).logits
    with CommDebugMode() as backward:
        F.cross_entropy(logits, one.labels).backward()

    worst = 0.0
    for (name, p), q in zip(model.named_parameters(), one.model.parameters(), strict=True):
        found = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
        worst = max(worst, difference(found, q.grad[order] if ".qkv." in name else q.grad))
    attention, feed_forward = model.layers[0].attention, model.layers[0].feed_forward
    layers = {
        "attention.qkv": attention.qkv,
        "attention.out": attention.out,
        "feed_forward.up": feed_forward.up,
        "feed_forward.down": feed_forward.down,
    }
    return {
        "processes": size,
        "output": max(everywhere(difference(logits, one.logits))),
        "gradients": max(everywhere(worst)),
        "calls": {"forward": forward.get_total_counts(), "backward": backward.get_total_counts()},
        "layout": {
            name: {
                "placement": str(layer.weight.placements[0]),
                "whole": list(layer.weight.shape),
                "local": list(layer.weight.to_local().shape),
            }
            for name, layer in layers.items()
        },
    }


def data_trial(device: torch.device, **_: Any) -> dict[str, Any]:
    """Each process has the whole model and some of the images; gradients are averaged.

    Returns:
        "by_hand", "ddp": largest relative differences of gradients from one process with all
        images; "bytes" that a process put into the all-reduce by hand.
    """
    from torch.nn.parallel import DistributedDataParallel

    one, team = whole(device), Team()
    images, labels = (x.chunk(team.size)[team.rank] for x in (one.images, one.labels))
    by_hand = copy.deepcopy(one.model)
    by_hand.zero_grad()
    F.cross_entropy(by_hand(images).logits, labels).backward()
    average_gradients(by_hand, team)
    wrapped = copy.deepcopy(one.model)
    wrapped.zero_grad()
    ddp = DistributedDataParallel(
        wrapped
    )  # without a name it would be gone before the backward pass
    F.cross_entropy(ddp(images).logits, labels).backward()
    expected = gradients_as_model(one.model)
    return {
        "processes": team.size,
        "by_hand": max(everywhere(gradient_difference(by_hand, expected))),
        "ddp": max(everywhere(gradient_difference(wrapped, expected))),
        "bytes": team.bytes,
    }


@dataclass
class Sent:
    """Bytes that a stage sent to its neighbours."""

    bytes: int = 0


def pipeline_stage(
    part: nn.Module, inputs: Tensor, outputs: Tensor, group: dist.ProcessGroup | None = None
) -> tuple[Any, Sent]:
    """A `PipelineStage` that counts the bytes which it sends to its neighbours.

    Args:
        part: what this process computes.
        inputs, outputs: of a micro-batch, as examples; only their shapes matter. Without them
            PyTorch would find the shapes by running the stages on memory as it comes, where a NaN
            may lie, which our layers refuse.
        group: the stages' processes, in their order.
    """
    from torch.distributed.pipelining import PipelineStage

    sent = Sent()

    class CountingStage(PipelineStage):
        def get_fwd_send_ops(self, chunk: int) -> list[dist.P2POp]:
            return self._counted(super().get_fwd_send_ops(chunk))

        def get_bwd_send_ops(self, chunk: int) -> list[dist.P2POp]:
            return self._counted(super().get_bwd_send_ops(chunk))

        def _counted(self, operations: list[dist.P2POp]) -> list[dist.P2POp]:
            sent.bytes += sum(operation.tensor.nbytes for operation in operations)
            return operations

    stage = CountingStage(
        part,
        dist.get_rank(group),
        dist.get_world_size(group),
        inputs.device,
        input_args=inputs,
        output_args=outputs,
        group=group,
    )
    return stage, sent


def examples(part: ViTStage, config: ViTConfig, images: Tensor) -> tuple[Tensor, Tensor]:
    """What goes into a stage and comes out of it, for as many images as these, as zeros."""
    hidden = images.new_zeros(len(images), tokens(config), config.d_model, requires_grad=True)
    logits = images.new_zeros(len(images), config.num_labels, requires_grad=True)
    return (torch.zeros_like(images) if part.first else hidden), (logits if part.last else hidden)


def schedule_class(schedule: Schedule) -> Any:
    from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

    return {"GPipe": ScheduleGPipe, "1F1B": Schedule1F1B}[schedule]


def mesh_trial(
    device: torch.device,
    *,
    stages: int = 2,
    micro_batches: int = MICRO_BATCHES,
    schedule: Schedule = "GPipe",
    **_: Any,
) -> dict[str, Any]:
    """Stages × tensor groups: a few steps of Adam, beside one process that does the same.

    Returns:
        "output", "gradients": of the first step, as in `tensor_trial`; "losses" of all steps, and
        "whole_losses" of one process; "ranks": for each process its stage and its place in the
        tensor group, what it held and sent in the first step, and under "planned" what
        `planner.plan` had said.
    """
    from torch.distributed.device_mesh import init_device_mesh

    size = dist.get_world_size()
    mesh = init_device_mesh(
        device.type, (stages, size // stages), mesh_dim_names=("pipeline", "tensor")
    )
    stage, team = mesh.get_local_rank("pipeline"), Team(mesh.get_group("tensor"))
    one = whole(device)
    part = ViTStage(one.model, stage, stages, team)
    expected = ViTStage(gradients_as_model(one.model), stage, stages, team)
    kept = KeptBytes(part)
    for layer in part.layers.values():
        kept.watch(layer)
    example = examples(part, one.model.config, one.images[: IMAGES // micro_batches])
    built, sent = pipeline_stage(part, *example, group=mesh.get_group("pipeline"))
    runner = schedule_class(schedule)(built, micro_batches, loss_fn=F.cross_entropy)
    optimizer = torch.optim.Adam(part.parameters(), RATE)

    def step() -> tuple[Tensor | None, float | None]:
        losses: list[Tensor] = []
        inputs = (one.images,) if part.first else ()
        wanted = {"target": one.labels, "losses": losses} if part.last else {}
        output = runner.step(*inputs, **wanted)
        return output, torch.stack(losses).mean().item() if losses else None

    output, loss = step()
    figures: dict[str, Any] = {
        "stage": stage,
        "tensor_rank": team.rank,
        "output": difference(output, one.logits) if part.last else 0.0,
        "gradient_difference": gradient_difference(part, expected),
        "parameters": count(part),
        "weights": sum(p.nbytes for p in part.parameters()),
        "gradients": sum(p.grad.nbytes for p in part.parameters()),
        "activations": kept.peak,
        "tensor_calls": team.calls,
        "tensor_bytes": team.bytes,
        "pipeline_bytes": sent.bytes,
    }
    losses = [loss]
    for i in range(STEPS):
        optimizer.step()
        optimizer.zero_grad()
        if i + 1 < STEPS:
            losses.append(step()[1])
    figures["optimizer"] = sum(
        state[moment].nbytes
        for state in optimizer.state.values()
        for moment in ("exp_avg", "exp_avg_sq")
    )
    planned = plan(
        one.model.config,
        tensor=team.size,
        pipeline=stages,
        images=IMAGES // micro_batches,
        micro_batches=micro_batches,
        schedule=schedule,
        precision=FLOAT64,
    )
    figures["planned"] = asdict(planned.ranks[stage])
    ranks = everywhere(figures)
    return {
        "processes": size,
        "stages": stages,
        "micro_batches": micro_batches,
        "schedule": schedule,
        "output": max(rank["output"] for rank in ranks),
        "gradients": max(rank["gradient_difference"] for rank in ranks),
        "losses": everywhere(losses)[-1],
        "whole_losses": train_whole(one),
        "whole_parameters": count(one.model),
        "ranks": ranks,
    }


def train_whole(one: Whole) -> list[float]:
    """The losses of one process that trains on all images."""
    model = copy.deepcopy(one.model)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(one.images).logits, one.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class _Sleep(torch.autograd.Function):
    """Takes a given time, forward and backward, and changes nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        ctx.backward_seconds = backward
        time.sleep(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        time.sleep(ctx.backward_seconds)
        return gradient, None, None


class WaitingStage(nn.Module):
    """Stands for a device with a fixed speed: it waits instead of computing.

    Four processes on two cores cannot compute at the same time, but they can wait at the same time.
    What is left to measure is the schedule, and the sending.

    Args:
        seconds: for a whole batch, a third of it forward.
        micro_batches: the batch is cut into so many.
    """

    def __init__(self, seconds: float, micro_batches: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.forward_seconds = seconds / micro_batches / 3

    def forward(self, x: Tensor) -> Tensor:
        return _Sleep.apply(x * self.scale, self.forward_seconds, 2 * self.forward_seconds)


def bubble_trial(
    device: torch.device,
    *,
    work: float = WORK,
    waiting: Sequence[int] = WAITING_MICRO_BATCHES,
    repeats: int = 1,
    schedules: Sequence[Schedule] = ("GPipe",),
    **_: Any,
) -> dict[str, Any]:
    """A pipeline over all processes whose stages wait: how long is a step?

    Returns:
        "work": seconds that each stage is busy in a step; "stages"; "seconds": for each schedule
        and number of micro-batches the median time of a step, from the common start to the last
        end.
    """
    from statistics import median

    rank, size = dist.get_rank(), dist.get_world_size()
    x = torch.zeros(max(waiting), 64, device=device)
    seconds: dict[str, dict[str, float]] = {}
    for schedule in schedules:
        for micro_batches in waiting:
            part = WaitingStage(work, micro_batches).to(device)
            example = x[: len(x) // micro_batches].clone().requires_grad_()
            stage, _ = pipeline_stage(part, example if rank else example.detach(), example)
            runner = schedule_class(schedule)(stage, micro_batches, loss_fn=F.mse_loss)
            taken = []
            for _ in range(repeats + 1):
                dist.barrier()
                started = time.perf_counter()
                inputs = (x,) if rank == 0 else ()
                runner.step(*inputs, **({"target": x} if rank == size - 1 else {}))
                taken.append(max(everywhere(time.perf_counter() - started)))
            # The first step warms up.
            seconds.setdefault(schedule, {})[str(micro_batches)] = median(taken[1:])
    return {"work": work, "stages": size, "seconds": seconds}


def speed_trial(
    device: torch.device,
    *,
    batch: int = 16,
    waiting: Sequence[int] = WAITING_MICRO_BATCHES,
    repeats: int = 5,
    **_: Any,
) -> dict[str, Any]:
    """Real work: the same batch's forward and backward pass, shared out in different ways.

    Returns:
        "seconds": for each way one time per round, in turns, from the common start to the last
        end; "one process" does it all while the others wait.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    config = ViTConfig(
        image_size=32,
        patch_size=4,
        d_model=256,
        num_layers=8,
        num_heads=4,
        d_ff=1024,
        num_labels=10,
    )
    torch.manual_seed(0)
    model = ViT(config).to(device)
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.arange(batch, device=device) % 10
    team = Team()
    split, copied = ViTStage(model, 0, 1, team), copy.deepcopy(model)
    own = [part.chunk(size)[rank] for part in (x, y)]

    def alone() -> None:
        if rank == 0:
            F.cross_entropy(model(x).logits, y).backward()

    def tensor() -> None:
        F.cross_entropy(split(x), y).backward()

    def data() -> None:
        F.cross_entropy(copied(own[0]).logits, own[1]).backward()
        average_gradients(copied, team)

    def pipeline(micro_batches: int) -> Callable[[], None]:
        part = ViTStage(model, rank, size)
        stage, _ = pipeline_stage(part, *examples(part, config, x[: batch // micro_batches]))
        runner = schedule_class("GPipe")(stage, micro_batches, loss_fn=F.cross_entropy)
        inputs = (x,) if rank == 0 else ()
        wanted = {"target": y} if rank == size - 1 else {}

        def run() -> None:
            runner.step(*inputs, **wanted)

        return run

    ways = {"one process": alone, "tensor": tensor, "data": data}
    ways |= {f"pipeline, {m} micro-batches": pipeline(m) for m in waiting}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats + 1):
        for name, run in ways.items():
            dist.barrier()
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken = max(everywhere(time.perf_counter() - started))
            if i:  # the first round warms up
                seconds[name].append(taken)
    return {"processes": size, "batch": batch, "parameters": count(model), "seconds": seconds}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


TRIALS: dict[str, Callable[..., dict[str, Any]]] = {
    "tensor": tensor_trial,
    "dtensor": dtensor_trial,
    "data": data_trial,
    "mesh": mesh_trial,
    "bubble": bubble_trial,
    "speed": speed_trial,
}

if __name__ == "__main__":
    main()
