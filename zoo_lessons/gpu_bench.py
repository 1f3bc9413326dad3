"""How fast ViT-Base and BERT-Base run on a GPU, in each precision.

The command is `python -m zoo_lessons.bench gpu`. For each model and batch size, it gives one row
for each way to run it: float32 with and without TF32, half precision, INT8, compiled, as a CUDA
graph, with attention written out, and by TensorRT. A row has the time of a call (CUDA events, after
a warm-up, ways in turns), examples a second, peak memory, the energy of an example where the GPU
counts it, and how far the output is from float32's. The result goes to
`data/records/gpu/NAME.json`, with device, software and date.

Weights are random: time does not depend on them. INT8 needs torchao, energy nvidia-ml-py, TensorRT
torch-tensorrt; where one is missing, the row says so or its energy stays empty. The course's pinned
versions are not needed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.bench import describe_machine
from zoo_lessons.deploy.fuse import cuda_graph
from zoo_lessons.layers.attention import DotProductAttention, scaled_dot_product_attention
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.paths import data_dir

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BERT_TOKENS = 128
BASELINE = "fp32"


@dataclass(frozen=True)
class Way:
    """How a model is run.

    Attributes:
        dtype: of weights and activations.
        tf32: let float32 products use TF32, with 10 bits of mantissa.
        int8: torchao's INT8 weights and dynamically quantized INT8 activations.
        compiled: by torch.compile.
        graph: replayed as one CUDA graph.
        written_out: attention with its matrix, instead of the fused kernel.
        tensorrt: by TensorRT, through torch-tensorrt.
    """

    dtype: torch.dtype = torch.float32
    tf32: bool = False
    int8: bool = False
    compiled: bool = False
    graph: bool = False
    written_out: bool = False
    tensorrt: bool = False

    def missing(self, device: torch.device) -> str | None:
        """What this way needs and does not find; None if it can run."""
        if (self.tf32 or self.graph or self.tensorrt) and device.type != "cuda":
            return "needs an NVIDIA GPU"
        if self.tf32 and torch.cuda.get_device_capability() < (8, 0):
            return "needs compute capability 8.0 (TF32)"
        if self.int8 and importlib.util.find_spec("torchao") is None:
            return "needs torchao"
        if self.tensorrt and importlib.util.find_spec("torch_tensorrt") is None:
            return "needs torch-tensorrt"
        return None


HALF, BRAIN = torch.float16, torch.bfloat16
WAYS: dict[str, Way] = {
    BASELINE: Way(),
    "TF32": Way(tf32=True),
    "fp16": Way(HALF),
    "bf16": Way(BRAIN),
    "INT8": Way(BRAIN, int8=True),
    "fp32, compiled": Way(compiled=True),
    "fp16, compiled": Way(HALF, compiled=True),
    "INT8, compiled": Way(BRAIN, int8=True, compiled=True),
    "fp16, CUDA graph": Way(HALF, graph=True),
    "fp32, attention written out": Way(written_out=True),
    "fp16, attention written out": Way(HALF, written_out=True),
    "fp16, TensorRT": Way(HALF, tensorrt=True),
}

# --- models --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A model to measure: how to build it, and an input of some batch size."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]


class _Output(nn.Module):
    """A model that returns one tensor: compilers and graphs want no output object."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x)
        return found.logits if isinstance(self.model, ViT) else found.last_hidden_state


def subject(config: ViTConfig | BertConfig, tokens: int = BERT_TOKENS) -> Subject:
    """The subject of a config. `tokens`: length of BERT's texts."""
    if isinstance(config, ViTConfig):
        shape = (config.num_channels, config.image_size, config.image_size)
        return Subject(lambda: ViT(config), lambda batch: torch.randn(batch, *shape))
    return Subject(
        lambda: BertModel(config), lambda batch: torch.randint(config.vocab_size, (batch, tokens))
    )


class WrittenOutAttention(DotProductAttention):
    """Attention by its formula, with the matrix of weights."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask, bias)[0]


def prepare(model: nn.Module, way: Way, example: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the model, ready to run in this way, and an input of the right type for it."""
    model = copy.deepcopy(model).eval()
    if way.written_out:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, DotProductAttention):
                    setattr(module, name, WrittenOutAttention())
    model = _Output(model).to(example.device, way.dtype).eval()
    if way.int8:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model, example.to(way.dtype) if example.is_floating_point() else example


def runner(model: nn.Module, way: Way, x: Tensor) -> Callable[[], Tensor]:
    """A function without arguments that runs the prepared model once on x."""
    run: Callable[[Tensor], Tensor] = model
    if way.tensorrt:
        import torch_tensorrt

        run = torch_tensorrt.compile(
            model, ir="dynamo", inputs=[x], enabled_precisions={way.dtype, torch.float32}
        )
    if way.compiled:
        run = torch.compile(model, dynamic=False)
    if way.graph:
        replay = cuda_graph(model, x)
        return lambda: replay(x)
    return lambda: run(x)


# --- measuring -----------------------------------------------------------------------------------


@contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """Whether float32 products may use TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seconds_of(function: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Mean seconds of a call. On a GPU by CUDA events, which the GPU itself stamps."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    for _ in range(calls):
        function()
    end_event.record()
    torch.cuda.synchronize()
    return start_event.elapsed_time(end_event) / 1000 / calls


class EnergyMeter:
    """Joules that a GPU has used, by NVML's counter; `joules()` is None where there is none."""

    def __init__(self, device: torch.device):
        self.handle = None
        if device.type != "cuda" or importlib.util.find_spec("pynvml") is None:
            return
        import pynvml

        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        try:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError_NotSupported:  # a GPU without the counter, older than Volta
            return
        self.handle = handle

    def joules(self) -> float | None:
        if self.handle is None:
            return None
        import pynvml

        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000


def measure(
    what: Subject,
    ways: Mapping[str, Way],
    batch: int,
    device: torch.device,
    *,
    rounds: int = 5,
    target_seconds: float = 0.2,
) -> dict[str, dict[str, Any]]:
    """All ways to run one model on one batch size.

    Returns:
        For each way: seconds (one a round), examples_per_second, ratio to fp32's throughput,
        peak_bytes, joules_per_example, error (root mean square of the difference to fp32's
        output, over that output's), or only `skipped` with the reason.
    """
    torch.manual_seed(0)
    model, example = what.build(), what.inputs(batch).to(device)
    rows: dict[str, dict[str, Any]] = {}
    running: dict[str, tuple[Callable[[], Tensor], Way, int]] = {}
    expected: Tensor | None = None
    for name, way in ways.items():
        reason = way.missing(device)
        if reason:
            rows[name] = {"skipped": reason}
            continue
        with torch.no_grad(), precision(way.tf32):
            try:
                run, row = _start(model, way, example, device)
            except torch.cuda.OutOfMemoryError:
                rows[name] = {"skipped": "out of memory"}
                continue
            output = run().double()
            if expected is None:
                expected = output
            row["error"] = float((output - expected).square().mean().sqrt() / expected.std())
            once = seconds_of(run, 3, device)
        calls = max(1, math.ceil(target_seconds / once))
        rows[name], running[name] = {**row, "seconds": []}, (run, way, calls)
    meter = EnergyMeter(device)
    energy: dict[str, float] = dict.fromkeys(running, 0.0)
    for _ in range(rounds):
        for name, (run, way, calls) in running.items():
            with torch.no_grad(), precision(way.tf32):
                before = meter.joules()
                rows[name]["seconds"].append(seconds_of(run, calls, device))
                after = meter.joules()
            if before is not None and after is not None:
                energy[name] += (after - before) / (calls * batch * rounds)
    for name in running:
        row = rows[name]
        row["examples_per_second"] = batch / sorted(row["seconds"])[rounds // 2]
        base = rows[next(iter(running))]["examples_per_second"]
        row["ratio"] = row["examples_per_second"] / base
        row["joules_per_example"] = energy[name] if meter.handle is not None else None
    return rows


def _start(
    model: nn.Module, way: Way, example: Tensor, device: torch.device
) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """Build and warm up; peak bytes of weights, activations and what the way itself keeps."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    prepared, x = prepare(model, way, example)
    run = runner(prepared, way, x)
    for _ in range(3):
        run()
    if device.type != "cuda":
        return run, {"peak_bytes": None}
    torch.cuda.synchronize()
    return run, {"peak_bytes": torch.cuda.max_memory_allocated() - held}


def benchmark(
    subjects: Mapping[str, Subject],
    batches: Sequence[int],
    device: torch.device,
    ways: Mapping[str, Way] = WAYS,
    *,
    rounds: int = 5,
    target_seconds: float = 0.2,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure everything, saying each row as it comes. The result is JSON-able."""
    results: dict[str, dict[str, Any]] = {}
    for name, what in subjects.items():
        results[name] = {}
        for batch in batches:
            torch.compiler.reset()
            rows = measure(what, ways, batch, device, rounds=rounds, target_seconds=target_seconds)
            results[name][str(batch)] = rows
            for way, row in rows.items():
                say(line(name, batch, way, row))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "software": software(),
        "baseline": BASELINE,
        "rounds": rounds,
        "bert_tokens": BERT_TOKENS,
        "results": results,
    }


def software() -> dict[str, str | None]:
    """Versions of what the figures depend on; None where it is not installed."""
    import importlib.metadata as metadata

    found: dict[str, str | None] = {}
    for name in ("torch", "torchao", "triton", "torch-tensorrt"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["cuda"] = torch.version.cuda
    return found


def line(model: str, batch: int, way: str, row: Mapping[str, Any]) -> str:
    """A row as text."""
    start = f"{model:10} {batch:4}  {way:28}"
    if "skipped" in row:
        return f"{start} {row['skipped']}"
    memory, energy = row["peak_bytes"], row["joules_per_example"]
    return (
        f"{start} {row['examples_per_second']:9.1f} /s {row['ratio']:6.2f}× "
        f"{'' if memory is None else f'{memory / 1e6:7.0f} MB'} "
        f"{'' if energy is None else f'{1000 * energy:8.2f} mJ'} error {row['error']:.1e}"
    )


# --- what was recorded ---------------------------------------------------------------------------


def load_gpu_records() -> dict[str, dict[str, Any]]:
    """All results under data/records/gpu, by name; empty where nobody has recorded any."""
    folder = data_dir() / "records" / "gpu"
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m zoo_lessons.bench gpu`. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo_lessons.bench", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("what", choices=["gpu"], help="what to measure")
    parser.add_argument("--models", nargs="+", choices=["ViT-Base", "BERT-Base"])
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="by default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", help="of the record; by default the GPU's name")
    parser.add_argument("--out", type=Path, help="folder; by default data/records/gpu")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("This benchmark needs an NVIDIA GPU, and PyTorch sees none.", file=sys.stderr)
        return 2
    subjects = {"ViT-Base": subject(ViTConfig.base()), "BERT-Base": subject(BertConfig.base())}
    chosen = {name: subjects[name] for name in options.models or subjects}
    # The baseline is needed for ratios and errors, and comes first.
    names = [name for name in WAYS if name == BASELINE or name in (options.ways or WAYS)]
    result = benchmark(
        chosen,
        options.batches,
        torch.device("cuda"),
        {name: WAYS[name] for name in names},
        rounds=options.rounds,
    )
    name = options.name or re.sub(r"\W+", "_", torch.cuda.get_device_name()).lower()
    folder = options.out or data_dir() / "records" / "gpu"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
