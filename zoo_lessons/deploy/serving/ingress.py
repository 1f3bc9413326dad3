"""The router as a Ray Serve actor: HTTP on one side, replicas on the other."""

# No `from __future__ import annotations` here. Ray ships this class by value; FastAPI then looks
# for the names in its annotations where they are not, and takes `request` for a query parameter.

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from zoo_lessons.deploy.serving.cache import PredictionCache
from zoo_lessons.deploy.serving.router import ModelFailed, ReplicaLost, ReplicasBusy, Router
from zoo_lessons.deploy.serving.schemas import RequestError
from zoo_lessons.deploy.serving.settings import Settings

api = FastAPI(title="Transformer Zoo", docs_url=None, redoc_url=None, openapi_url=None)


@api.exception_handler(RequestError)
async def _say_what_is_wrong(request: Request, error: RequestError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


class RayReplicas:
    """Reaches a version's replicas; Ray Serve picks the less busy of two at random for each.

    Args:
        max_batch, window_ms: how replicas form batches.
        normal: inputs of the time when all was well.
    """

    def __init__(self, max_batch: int, window_ms: float, normal: list[Any]) -> None:
        self.batching, self.normal = (max_batch, window_ms), normal
        self.handles: dict[tuple[str, str], Any] = {}

    def handle(self, model: str, version: str) -> Any:
        if (model, version) not in self.handles:
            self.handles[model, version] = serve.get_app_handle(f"{model}-{version}")
        return self.handles[model, version]

    async def predict(self, model: str, version: str, value: Any) -> dict[str, Any]:
        try:
            return await self.handle(model, version).predict.remote(value, *self.batching)
        except RayTaskError as error:  # before RayActorError: the one may wear the other's class
            raise ModelFailed(type(error.cause).__name__) from error
        except (RayActorError, DeploymentUnavailableError) as error:
            raise ReplicaLost(type(error).__name__) from error
        except (BackPressureError, RayError) as error:
            raise ReplicasBusy(type(error).__name__) from error

    async def reference(self, model: str, version: str) -> list[list[float]]:
        return await self.handle(model, version).features.remote(self.normal)


@serve.deployment
@serve.ingress(api)
class Ingress:
    """HTTP for a `Router`.

    Args:
        settings: of the service.
        redis_url: where the cache is; None for no cache.
        normal: inputs for the drift detector.
    """

    def __init__(self, settings: Settings, redis_url: str | None, normal: list[Any]):
        self.replicas = RayReplicas(settings.max_batch, settings.window_ms, normal)
        cache = PredictionCache.connect(redis_url, ttl_s=settings.cache_ttl_s)
        self.router = Router(settings, self.replicas, cache)

    @api.post("/v1/predict")
    async def predict(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "")
        return JSONResponse(await self.router.predict(kind, request.stream()))

    @api.post("/v1/feedback")
    async def feedback(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "")
        return JSONResponse(await self.router.feedback(kind, request.stream()))

    @api.get("/health")
    async def health(self) -> Response:
        body = self.router.health()
        return JSONResponse(body, status_code=200 if body["status"] == "ok" else 503)

    @api.get("/metrics")
    async def metrics(self) -> Response:
        return Response(self.router.metrics_text(), media_type="text/plain; version=0.0.4")

    # The service calls these through a handle; HTTP does not reach them.

    async def set_weights(self, model: str, weights: dict[str, float], stable: str) -> None:
        await self.router.set_weights(model, weights, stable)

    async def set_batching(self, max_batch: int, window_ms: float) -> None:
        self.replicas.batching = max_batch, window_ms

    async def withdraw(self, model: str) -> None:
        await self.router.withdraw(model)

    async def forget(self, model: str, version: str) -> None:
        """A version is about to be taken down."""
        self.replicas.handles.pop((model, version), None)

    async def status(self) -> dict[str, Any]:
        return await self.router.status()
