"""A service in one process: the real router of lesson 21 in front of ONNX files.

`Router` knows nothing of processes or HTTP. Here its replicas are sessions of ONNX Runtime in this
very process. Left out is what lesson 21 has around it: the load balancer, replicas in processes of
their own, batches, and the cache. What stays is checked requests, versions, users that stick to
theirs, outcomes, the drift monitor, and the judge of canaries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.datasets.digits import Digits
from zoo_lessons.deploy.export import OnnxModel
from zoo_lessons.deploy.reading_machine import prepared
from zoo_lessons.deploy.serving.cache import PredictionCache
from zoo_lessons.deploy.serving.router import Router
from zoo_lessons.deploy.serving.settings import Settings

MODEL, FIRST = "digit", "v1"


class FileReplicas:
    """Versions of the digit reader, each an ONNX file: what a `Router` asks.

    Features for the drift monitor are the logits of the first version, and come with its answers
    only: another version's logits are other numbers for the same digit, and would look like drift.

    Args:
        first: the file of the first version.
        normal: digits of the time when all is well, (n, 1, 8, 8), for the drift monitor.
    """

    def __init__(self, first: OnnxModel, normal: Tensor):
        self.versions = {FIRST: first}
        self.normal = normal

    def logits(self, version: str, images: Tensor) -> Tensor:
        """(n, 1, 8, 8), from 0 to 1 -> (n, 10)."""
        return self.versions[version](pixel_values=prepared(images))["logits"]

    async def predict(self, model: str, version: str, value: dict[str, Any]) -> dict[str, Any]:
        """As `serving.router.Replicas` says."""
        logits = self.logits(version, torch.tensor(value["image"])[None, None])[0]
        return {
            "output": {"digit": logits.argmax().item()},
            "features": logits.tolist() if version == FIRST else None,
            "batch": 1,
        }

    async def reference(self, model: str, version: str) -> list[list[float]]:
        """The first version's logits of normal digits."""
        return self.logits(FIRST, self.normal).tolist()


class LocalService:
    """Router and replicas, for a notebook: each method waits until all is done.

    Args:
        first: the file of the version that everybody gets.
        normal: as for `FileReplicas`.
        **settings: of the service: `drift_window`, `judge_after`.
    """

    def __init__(self, first: OnnxModel, normal: Tensor, **settings: Any):
        self.replicas = FileReplicas(first, normal)
        chosen = Settings(replicas={MODEL: 1}, cache=False, **settings)
        self.router = Router(chosen, self.replicas, PredictionCache(None))
        self.share({FIRST: 1.0})

    def add(self, version: str, file: OnnxModel, share: float) -> None:
        """Give a new version to some of the users."""
        self.replicas.versions[version] = file
        self.share({FIRST: 1 - share, version: share})

    def share(self, weights: dict[str, float]) -> None:
        """Share the users among the versions, and begin to count anew."""
        _wait(self.router.set_weights(MODEL, weights, FIRST))

    def send(self, letters: Digits, *, users: int = 300, feedback: bool = True) -> list[str]:
        """Digits one after the other, each from a user; afterwards what would have been right.

        Returns:
            For each digit the version that read it.
        """
        return _wait(self._send(letters, users, feedback))

    async def _send(self, letters: Digits, users: int, feedback: bool) -> list[str]:
        met = []
        pairs = zip(letters.images.tolist(), letters.labels.tolist(), strict=True)
        for number, (image, label) in enumerate(pairs):
            asked = {"type": MODEL, "image": image[0], "user": f"user-{number % users}"}
            answer = await self.router.predict("application/json", _body(asked))
            met.append(answer["version"])
            if feedback:
                told = {"id": answer["id"], "label": label}
                await self.router.feedback("application/json", _body(told))
        return met

    @property
    def outcomes(self) -> dict[str, tuple[int, int]]:
        """Version -> (wrong, judged)."""
        kept = self.router.outcomes
        return {version: (kept[MODEL, version].wrong, kept[MODEL, version].judged)
                for version in self.router.weights[MODEL]}  # fmt: skip

    @property
    def events(self) -> list[str]:
        """What happened, oldest first."""
        return [f"{event['kind']}: {event['what']}" for event in self.router.events]


async def _body(value: dict[str, Any]) -> AsyncIterator[bytes]:
    yield json.dumps(value).encode()


def _wait(work: Any) -> Any:
    """Run a coroutine to its end; a notebook's own thread has an event loop already."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()
