"""How long the readers of lesson 23 take, call by call, beside the machine that is there today.

The reference is lesson 09's ViT in PyTorch, float32, one digit at a time. Beside it every model of
`deploy.reading_machine`, in PyTorch and as ONNX files in float32 and INT8, one thread each: single
digits, each call timed by itself, and batches of `BATCH`. Untrained weights take the same time as
trained ones.

Figures, for each: p99 and p50 of the single calls over the reference's, with 95 % intervals
(rounds are resampled); digits per second in batches over the reference's one by one; the
reference's own times, and its p99 against itself (it is timed twice in each round), which shows
what noise alone does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.reading_plans import files
from zoo_lessons.bench import CONTROL
from zoo_lessons.deploy.export import OnnxModel
from zoo_lessons.deploy.plans import percentile_ratio, ratio_interval, time_calls
from zoo_lessons.deploy.reading_machine import MODELS, left_out, new_reader, prepared
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

BATCH, ROUNDS, CALLS = 32, 40, 50
REFERENCE = "ViT, PyTorch"


def caller(model: nn.Module | OnnxModel, images: Tensor) -> Callable[[], object]:
    """A function that reads these digits once."""
    if isinstance(model, OnnxModel):
        return lambda: model(pixel_values=images)

    @torch.inference_mode()
    def call() -> object:
        return model(images)

    return call


def ready(folder: Path) -> dict[str, nn.Module | OnnxModel]:
    """name -> everything that is timed, the reference first."""
    data = left_out(0).labelled
    found: dict[str, nn.Module | OnnxModel] = {}
    for name in MODELS:  # the ViT is the first
        reader = new_reader(name).eval()
        found[f"{name}, PyTorch"] = reader
        own = folder / name
        own.mkdir()
        for precision, path in files(reader, data, own).items():
            found[f"{name}, {precision}"] = OnnxModel(path, threads=1)
    return found


def measure(
    models: dict[str, nn.Module | OnnxModel], images: Tensor, *, rounds: int, calls: int
) -> dict[str, Any]:
    """The figures, from single digits and from one batch of all `images`."""
    one = {name: caller(model, images[:1]) for name, model in models.items()}
    single = time_calls({**one, CONTROL: one[REFERENCE]}, rounds=rounds, calls=calls)
    whole = {name: caller(model, images) for name, model in models.items()}
    batched = time_calls(whole, rounds=rounds, calls=max(1, calls // 10))
    reference = single[REFERENCE]
    rate = 1 / np.median(reference)
    return {
        "reference": REFERENCE,
        "reference_ms": {q: 1e3 * float(np.percentile(reference, q)) for q in (50, 99)},
        "batch": len(images),
        "rounds": rounds,
        "calls": calls,
        "rows": {
            name: {
                "p99": round(percentile_ratio(seconds, reference), 4),
                "p99_interval": [round(x, 4) for x in ratio_interval(seconds, reference)],
                "p50": round(percentile_ratio(seconds, reference, 50), 4),
                **(
                    {"throughput": round(len(images) / float(np.median(batched[name])) / rate, 2)}
                    if name in batched
                    else {}
                ),
            }
            for name, seconds in single.items()
        },
    }


@experiment(
    "reading_times",
    lesson="23",
    uses=[
        "experiments.reading_plans",
        "zoo_lessons.bench",
        "zoo_lessons.deploy.export",
        "zoo_lessons.deploy.plans",
        "zoo_lessons.deploy.reading_machine",
        "zoo_lessons.models.cnn",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.random_state",
    ],
)
def reading_times() -> dict[str, Any]:
    seed_everything(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            images = prepared(left_out(0).judged.images[:BATCH])
            return {"figures": measure(ready(Path(folder)), images, rounds=ROUNDS, calls=CALLS)}
    finally:
        torch.set_num_threads(threads)
