"""One copy of one version of one model, as Ray Serve runs it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ray import serve


@serve.deployment
class Replica:
    """Computes batches of predictions.

    Requests that arrive within the batching window of the first one share its batch. A batch goes
    off as soon as it is full. While it computes, the next one gathers.

    Args:
        model, folder: as `load_predictor` takes them.
    """

    def __init__(self, model: str, folder: str | None = None):
        import torch

        from zoo_lessons.deploy.serving.predictors import load_predictor

        torch.set_num_threads(1)  # replicas share the cores: more threads would only get in the way
        self.predictor = load_predictor(model, folder)
        self.batching: tuple[int, float] | None = None

    async def predict(self, value: Any, max_batch: int, window_ms: float) -> dict[str, Any]:
        """The prediction for one input, computed together with those of others.

        Size and window come with each request, so that they can be changed while replicas run.

        Returns:
            Its output, its features, and how many inputs shared the batch.
        """
        if (max_batch, window_ms) != self.batching:
            self.batching = max_batch, window_ms
            self._predict_all.set_max_batch_size(max_batch)
            self._predict_all.set_batch_wait_timeout_s(window_ms / 1000)
        return await self._predict_all(value)

    @serve.batch
    async def _predict_all(self, inputs: list[Any]) -> list[dict[str, Any]]:
        """Called with one input; runs with those of all who called meanwhile."""
        predictions = await asyncio.to_thread(self.predictor, inputs)
        return [
            {"output": one.output, "features": one.features, "batch": len(inputs)}
            for one in predictions
        ]

    async def features(self, inputs: list[Any]) -> list[list[float]]:
        """What the drift detector compares: the inputs as this version of the model sees them."""
        return [one.features for one in await asyncio.to_thread(self.predictor, inputs)]

    async def pid(self) -> int:
        """Of this process: whoever tests the service wants to kill it."""
        return os.getpid()
