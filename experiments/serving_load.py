"""Latency against throughput: the batching window, the cache, and what an answer costs.

One service on this machine with one replica of the captioner, whose decoder writes word by word:
sixteen captions together take far less than sixteen times as long as one. Users are an open loop in
another process (`deploy/serving/load.py`), all with other pictures. Nothing is cached, and:

- no batching, and batches of up to 16 with windows of 0, 5, 20 and 80 ms,
- at 10, 30, 60 and 150 requests per second, three seconds each, in a shuffled order. (A first run
  ended at 60, which every setting still answered: that says nothing of what batches add where it is
  crowded. 150 is more than any can answer, and the service refuses the rest.)

Then the load that a cache lives from: popularity like Zipf's, from 200 pictures, 60 requests per
second, without a cache (in the same service, batches of 16, window 5 ms), and in a second service
with a cache, first cold, then warm.

"core_ms" is the processor time of all processes of the service, for each good answer, without the
time to start. "sustained" is the highest of the rates at which p99 stays below 500 ms and at most
1 % of the requests fail.

Timed: it needs a quiet machine. Under three minutes.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from zoo_lessons.datasets.shapes import ShapesDataset
from zoo_lessons.deploy.serving.background import BackgroundService
from zoo_lessons.deploy.serving.load import LoadProcess, Plan, summarise
from zoo_lessons.deploy.serving.schemas import SHAPES_SIZE
from zoo_lessons.records import experiment

RATES, SECONDS, PICTURES = (10, 30, 60, 150), 3.0, 200
NO_BATCHING = "no batching"
WINDOWS = (0, 5, 20, 80)
SETTINGS = {NO_BATCHING: (1, 0.0)} | {f"window {w} ms": (16, float(w)) for w in WINDOWS}
CACHE_RATE, ZIPF, CACHE_SECONDS = 60, 1.1, 4.0
P99_LIMIT_MS, ERROR_LIMIT = 500.0, 0.01


def pictures(count: int = PICTURES) -> list[dict[str, Any]]:
    """A pool of requests for the captioner, with the captions that it should give."""
    from zoo_lessons.deploy.serving.predictors import load_predictor

    data = ShapesDataset("test", count, image_size=SHAPES_SIZE)
    bodies = [
        {"type": "caption", "image": base64.b64encode(data.image(i).tobytes()).decode()}
        for i in range(count)
    ]
    captions = load_predictor("caption")([{"image": body["image"]} for body in bodies])
    return [
        {"body": body, "expect": one.output} for body, one in zip(bodies, captions, strict=True)
    ]


def run(
    service: BackgroundService, pool: Sequence[Mapping[str, Any]], plan: Plan
) -> dict[str, Any]:
    """Load a service once; what users saw, and what it used."""
    before, reading = service.usage()["cpu_seconds"], service.reading()
    rows = LoadProcess(service.url, pool, plan).rows()
    used, change = service.usage(), service.reading().since(reading)
    summary = summarise(rows, plan.seconds)
    batches = change.total("zoo_batch_size_count", model="caption")
    sizes = change.total("zoo_batch_size_sum", model="caption")
    return {
        "offered": plan.rate,
        **asdict(summary),
        "core_ms": 1e3 * (used["cpu_seconds"] - before) / max(1, summary.answered),
        "megabytes": used["megabytes"],
        "mean_batch": sizes / batches if batches else None,
    }


def sustained(rows: Sequence[Mapping[str, Any]]) -> int:
    """The highest offered rate up to which all rates were within the limits; 0 if none was."""
    best = 0
    for row in sorted(rows, key=lambda row: row["offered"]):
        if row["p99"] > P99_LIMIT_MS or row["errors"] > ERROR_LIMIT * row["requests"]:
            break
        best = row["offered"]
    return best


@experiment(
    "serving_load",
    lesson="21",
    uses=[
        "experiments.blip_shapes",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.deploy.serving.background",
        "zoo_lessons.deploy.serving.cache",
        "zoo_lessons.deploy.serving.ingress",
        "zoo_lessons.deploy.serving.load",
        "zoo_lessons.deploy.serving.predictors",
        "zoo_lessons.deploy.serving.replica",
        "zoo_lessons.deploy.serving.router",
        "zoo_lessons.deploy.serving.schemas",
        "zoo_lessons.deploy.serving.service",
    ],
)
def serving_load() -> dict[str, Any]:
    pool = pictures()
    order = [(name, rate) for name in SETTINGS for rate in RATES]
    random.Random(0).shuffle(order)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    cached: dict[str, dict[str, Any]] = {}
    zipf = Plan(rate=CACHE_RATE, seconds=CACHE_SECONDS, zipf=ZIPF, seed=100)
    arguments = ("--replicas", "caption=1", "--max-batch", "16", "--window-ms", "5")
    with BackgroundService(*arguments, "--no-cache") as service:
        run(service, pool, Plan(rate=20, seconds=2.0, seed=99))  # warm-up
        cached["no cache"] = run(service, pool, zipf)
        for i, (name, rate) in enumerate(order):
            max_batch, window = SETTINGS[name]
            service.command("configure", max_batch=max_batch, window_ms=window)
            found[name].append(run(service, pool, Plan(rate=rate, seconds=SECONDS, seed=i)))
    with BackgroundService(*arguments) as service:
        cached["cold cache"] = run(service, pool, zipf)
        cached["warm cache"] = run(service, pool, zipf)
    curves = {name: sorted(rows, key=lambda row: row["offered"]) for name, rows in found.items()}
    return {
        "figures": {
            "seconds": SECONDS,
            "pictures": PICTURES,
            "zipf": ZIPF,
            "curves": curves,
            "cache": cached,
            "p99_limit_ms": P99_LIMIT_MS,
            "error_limit": ERROR_LIMIT,
            "sustained": {name: sustained(rows) for name, rows in curves.items()},
        }
    }
