"""Predictions kept in Redis.

A prediction depends on the input *and on the model that made it*. So the key holds both: when a new
version is rolled out, the old answers are not found any more, and nobody has to delete them.

A cache may fail at any time, and then the service must be slower, not wrong: each operation has a
short time limit, an error counts as "not found", and after an error the cache is left alone for a
moment, so that requests do not queue up for a server that is gone (a circuit breaker: Nygard,
"Release It!", 2nd edition 2018, section 5.2).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

PREFIX = "zoo"


def cache_key(model: str, version: str, value: Any) -> str:
    """The same for equal inputs, in every process, on every machine.

    Python's own `hash()` would not do: for text it differs from process to process.

    Args:
        model, version: what made the prediction.
        value: the input, JSON-able. The order of an object's keys does not matter.

    Raises:
        ValueError: the input holds NaN or infinity, or the model or version a colon.
    """
    for part in (model, version):
        if ":" in part or not part:
            raise ValueError(f"{part!r} in a cache key must be a name without colons")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{PREFIX}:{model}:{version}:{hashlib.sha256(text.encode()).hexdigest()}"


class PredictionCache:
    """JSON values in Redis, with a circuit breaker. All methods are coroutines.

    Args:
        client: a `redis.asyncio.Redis`, or None for no cache at all.
        ttl_s: seconds that a value is kept.
        pause_s: after an error, how long Redis is left alone.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        client: Any | None,
        *,
        ttl_s: int = 600,
        pause_s: float = 0.5,
        now: Callable[[], float] = time.monotonic,
    ):
        self.client, self.ttl_s, self.pause_s, self.now = client, ttl_s, pause_s, now
        self.errors = 0
        self._closed_until = 0.0

    @classmethod
    def connect(cls, url: str | None, *, timeout_s: float = 0.1, **options: Any) -> PredictionCache:
        """A cache at `url`; None gives one that never finds anything. Does not connect yet."""
        if url is None:
            return cls(None, **options)
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # the breaker decides when to try again
        )
        return cls(client, **options)

    @property
    def available(self) -> bool:
        """Whether the next operation will be tried."""
        return self.client is not None and self.now() >= self._closed_until

    async def get(self, key: str) -> Any | None:
        """The value, or None if there is none or Redis does not answer."""
        found = await self._try("get", key)
        if found is None:
            return None
        try:
            return json.loads(found)
        except ValueError:  # somebody else wrote into our Redis
            self.errors += 1
            return None

    async def set(self, key: str, value: Any) -> bool:
        """Keep a value. False if Redis did not take it."""
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        return await self._try("set", key, text, ex=self.ttl_s) is not None

    async def close(self) -> None:
        if self.client is not None:
            await self.client.aclose()

    async def _try(self, operation: str, *args: Any, **options: Any) -> Any | None:
        if not self.available:
            return None
        from redis.exceptions import RedisError

        try:
            return await getattr(self.client, operation)(*args, **options)
        except (RedisError, OSError, TimeoutError):
            self.errors += 1
            self._closed_until = self.now() + self.pause_s
            return None
