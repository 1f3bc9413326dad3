"""The model router: checks a request, looks into the cache, asks a replica, counts.

It stands between the load balancer and the models, and computes nothing itself. It knows nothing of
Ray or HTTP servers either: `ingress.py` puts it into a Ray Serve actor, and a test calls it as it
is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from zoo_lessons.deploy.serving.cache import PredictionCache, cache_key
from zoo_lessons.deploy.serving.drift import DriftMonitor
from zoo_lessons.deploy.serving.metrics import RouterMetrics
from zoo_lessons.deploy.serving.routing import (
    Outcomes,
    check_weights,
    choose_version,
    judge_canary,
)
from zoo_lessons.deploy.serving.schemas import (
    PredictRequest,
    RequestError,
    parse_feedback,
    parse_request,
)
from zoo_lessons.deploy.serving.settings import Settings

RETRY_AFTER_S = 1
RETRY_PAUSE_S = 0.05
REMEMBERED = 5000  # answers whose feedback is still taken
WATCHED = "digit"  # the model whose inputs the drift detector sees


class ReplicaLost(Exception):
    """The replica died or is not there; another one may answer."""


class ModelFailed(Exception):
    """The model raised: another replica would do the same."""


class ReplicasBusy(Exception):
    """No replica takes another request now."""


class Replicas(Protocol):
    """How a router reaches the models. `ingress.py` has Ray's way."""

    async def predict(self, model: str, version: str, value: Any) -> dict[str, Any]:
        """{"output", "features", "batch"}. Raises ReplicaLost, ModelFailed or ReplicasBusy."""

    async def reference(self, model: str, version: str) -> list[list[float]]:
        """Features of normal inputs, for the drift detector."""


class Router:
    """The only part that users talk to.

    Args:
        settings: of the service.
        replicas: the models.
        cache: of predictions.
    """

    def __init__(self, settings: Settings, replicas: Replicas, cache: PredictionCache):
        self.settings, self.replicas, self.cache = settings, replicas, cache
        self.metrics = RouterMetrics()
        self.weights: dict[str, dict[str, float]] = {}
        self.stable: dict[str, str] = {}
        self.outcomes: dict[tuple[str, str], Outcomes] = {}
        self.in_flight: dict[str, int] = {}
        self.answers: OrderedDict[str, tuple[str, str, Any]] = OrderedDict()
        self.events: list[dict[str, Any]] = []
        self.drift: DriftMonitor | None = None
        self.alarm = False

    # --- what users ask ------------------------------------------------------------------------

    async def predict(self, kind: str, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Answer a request of `schemas.py`.

        Args:
            kind: its Content-Type.
            chunks: its body.

        Returns:
            {"id", "model", "version", "cached", "output"}.

        Raises:
            RequestError: an answer other than 200.
        """
        started = time.perf_counter()
        model, version, status = "unknown", "unknown", 500
        try:
            asked = parse_request(await self._body(kind, chunks))
            if asked.type not in self.weights:
                raise RequestError(
                    404,
                    "no_such_model",
                    f"this service has no model {asked.type!r}, only {', '.join(self.weights)}",
                )
            model, id = asked.type, uuid.uuid4().hex
            version = choose_version(self.weights[model], asked.user or id, salt=model)
            answer = await self._answer(asked, version, id)
            status = 200
            return answer
        except RequestError as error:
            status = error.status
            raise
        finally:
            self.metrics.requests.labels(model, version, str(status)).inc()
            self.metrics.latency.labels(model).observe(time.perf_counter() - started)

    async def feedback(self, kind: str, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Take what would have been right; a canary is judged by it. Raises RequestError."""
        given = parse_feedback(await self._body(kind, chunks))
        if given.id not in self.answers:
            raise RequestError(404, "unknown_id", f"no answer with id {given.id!r} is remembered")
        model, version, output = self.answers.pop(given.id)
        # The type counts: a probability of 1.0 is not the digit 1.
        right = any(
            type(value) is type(given.label) and value == given.label for value in output.values()
        )
        outcomes = self._outcomes(model, version)
        if right:
            outcomes.right += 1
        else:
            outcomes.wrong += 1
        self._judge(model)
        return {"right": right}

    def health(self) -> dict[str, Any]:
        """Ready as soon as there is a model to route to."""
        return {
            "status": "ok" if self.weights else "starting",
            "models": {model: self.weights[model] for model in sorted(self.weights)},
            "cache": "up" if self.cache.available else "down" if self.cache.client else "off",
        }

    def metrics_text(self) -> str:
        """For Prometheus."""
        self.metrics.cache_up.set(self.cache.available)
        return self.metrics.text()

    # --- what the service tells ----------------------------------------------------------------

    async def set_weights(self, model: str, weights: Mapping[str, float], stable: str) -> None:
        """Share the users of a model among its versions, and begin to judge anew.

        Raises:
            ValueError: weights that are no shares.
        """
        known = self.stable.get(model)
        self.weights[model], self.stable[model] = check_weights(weights), stable
        self.in_flight.setdefault(model, 0)
        for version in weights:
            self.outcomes[model, version] = Outcomes()
        if model == WATCHED and stable != known and self.settings.drift_window:
            reference = await self.replicas.reference(model, stable)
            self.drift = DriftMonitor(reference, window=self.settings.drift_window)
            self._set_alarm(False)

    async def withdraw(self, model: str) -> None:
        """Route nobody to this model any more; its answers in the cache stay until they expire.

        Raises:
            ValueError: it is not routed to.
        """
        if model not in self.weights:
            raise ValueError(f"model {model!r} is not served, only {', '.join(self.weights)}")
        del self.weights[model], self.stable[model]
        if model == WATCHED:
            self.drift = None
            self._set_alarm(False)

    async def status(self) -> dict[str, Any]:
        """Weights, outcomes, events and drift, JSON-able."""
        return {
            "weights": self.weights,
            "outcomes": {
                f"{model}-{version}": asdict(outcomes)
                for (model, version), outcomes in self.outcomes.items()
            },
            "events": self.events,
            "drift": [asdict(report) for report in (self.drift.reports if self.drift else [])],
        }

    # --- how ------------------------------------------------------------------------------------

    async def _body(self, kind: str, chunks: AsyncIterator[bytes]) -> bytes:
        limit = self.settings.max_body_bytes
        if kind.split(";")[0].strip() != "application/json":
            raise RequestError(
                415, "not_json", f"Content-Type is {kind!r}, expected 'application/json'"
            )
        body = bytearray()
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise RequestError(
                    413, "too_large", f"the body has more than {limit} bytes, which is the limit"
                )
        return bytes(body)

    async def _answer(self, asked: PredictRequest, version: str, id: str) -> dict[str, Any]:
        model, value = asked.type, asked.input()
        key = cache_key(model, version, value)
        output = await self.cache.get(key)
        cached = output is not None
        self.metrics.cache.labels("hit" if cached else "miss").inc()
        if not cached:
            output = await self._compute(model, version, value)
            await self.cache.set(key, output)
        self._outcomes(model, version).answered += 1
        self.answers[id] = (model, version, output)
        if len(self.answers) > REMEMBERED:
            self.answers.popitem(last=False)
        return {"id": id, "model": model, "version": version, "cached": cached, "output": output}

    async def _compute(self, model: str, version: str, value: Any) -> dict[str, Any]:
        """Ask a replica, unless too many requests wait already."""
        if self.in_flight[model] >= self.settings.max_in_flight:
            raise _overloaded(
                f"{self.in_flight[model]} requests for {model!r} are under way, which is the limit"
            )
        self._count_in_flight(model, 1)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                reply = await self._ask(model, version, value)
        except TimeoutError:
            self._failed(model, version)
            raise RequestError(
                504, "timeout", f"no answer within {self.settings.timeout_s} seconds"
            ) from None
        except ReplicasBusy:
            # The crowd's doing, not this version's: a good canary must not go home for it.
            raise _overloaded(f"all replicas of {model!r} are busy") from None
        except RequestError:
            self._failed(model, version)
            raise
        finally:
            self._count_in_flight(model, -1)
        self.metrics.batch.labels(model).observe(reply["batch"])
        # Another version has other features: beside the stable one's they would look like drift.
        if model == WATCHED and version == self.stable.get(model) and reply["features"] is not None:
            self._watch(reply["features"])
        return reply["output"]

    async def _ask(self, model: str, version: str, value: Any) -> dict[str, Any]:
        """One replica, or another one if it dies. A prediction changes nothing, so asking twice
        is harmless; asking without end would keep a broken service busy with itself."""
        for attempt in range(self.settings.retries + 1):
            if attempt:
                self.metrics.retries.inc()
                await asyncio.sleep(RETRY_PAUSE_S * 2 ** (attempt - 1))
            try:
                return await self.replicas.predict(model, version, value)
            except ReplicaLost:
                continue
            except ModelFailed as error:
                raise RequestError(500, "model_failed", f"the model failed: {error}") from None
        raise RequestError(
            503,
            "no_replica",
            f"no replica of {model!r} answered in {self.settings.retries + 1} attempts",
            retry_after=RETRY_AFTER_S,
        )

    def _watch(self, features: list[float]) -> None:
        """Show the drift detector what came. A full window takes it some milliseconds."""
        if self.drift is None:
            return
        report = self.drift.add(features)
        if report is None:
            return
        self.metrics.drift_windows.labels("drifted" if report.drifted else "same").inc()
        if self.drift.alarm and not self.alarm:
            self._event("drift", f"p = {report.p_value:.1g}, below {report.threshold:.1g}")
        self._set_alarm(self.drift.alarm)

    def _judge(self, model: str) -> None:
        """Send this model's canaries home if they are worse."""
        stable = self.stable.get(model)  # None: withdrawn while the request was under way
        for version, share in self.weights.get(model, {}).items():
            if version == stable or share == 0:
                continue
            judgement = judge_canary(
                self._outcomes(model, stable),
                self._outcomes(model, version),
                at_least=self.settings.judge_after,
            )
            if judgement.rollback:
                self.weights[model] = {stable: 1.0}
                self.metrics.rollbacks.inc()
                self._event("rollback", f"{model}-{version}: {judgement.reason}")
                return

    def _failed(self, model: str, version: str) -> None:
        self._outcomes(model, version).errors += 1
        self._judge(model)

    def _outcomes(self, model: str, version: str) -> Outcomes:
        return self.outcomes.setdefault((model, version), Outcomes())

    def _count_in_flight(self, model: str, change: int) -> None:
        self.in_flight[model] += change
        self.metrics.in_flight.labels(model).set(self.in_flight[model])

    def _set_alarm(self, on: bool) -> None:
        self.alarm = on
        self.metrics.drift_alarm.set(on)

    def _event(self, kind: str, what: str) -> None:
        self.events.append({"time": time.time(), "kind": kind, "what": what})


def _overloaded(why: str) -> RequestError:
    """Back-pressure: a quick "come back later" instead of a queue without an end."""
    return RequestError(503, "overloaded", f"{why}; try again later", retry_after=RETRY_AFTER_S)
