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

    def reconfigure(self, options: dict[str, Any]) -> None:
        """Ray Serve calls this with the deployment's `user_config`, also while it runs."""
        self.predict.set_max_batch_size(options["max_batch"])
        self.predict.set_batch_wait_timeout_s(options["window_ms"] / 1000)

    @serve.batch
    async def predict(self, inputs: list[Any]) -> list[dict[str, Any]]:
        """Called with one input; computed with those of others.

        Returns:
            For each input its output, its features, and how many inputs shared the batch.
        """
        predictions = await asyncio.to_thread(self.predictor, inputs)
        return [
            {"output": one.output, "features": one.features, "batch": len(inputs)}
            for one in predictions
        ]

    async def reference(self) -> list[list[float]] | None:
        """Features of normal inputs, for the drift detector."""
        return await asyncio.to_thread(self.predictor.reference)

    async def pid(self) -> int:
        """Of this process: whoever tests the service wants to kill it."""
        return os.getpid()
