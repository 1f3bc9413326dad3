"""Learners at work, all at once, on the course's JupyterHub: what fails, how long, how much memory.

    build/hub/env/bin/python tools/hub_trial.py                     ten learners, two lessons each
    build/hub/env/bin/python tools/hub_trial.py --learners 2 --lessons 00 01

It starts the hub of `docs/jupyterhub` on loopback (install it by `docs/jupyterhub/install.sh`).
Each simulated learner logs in, starts a server, fetches a copy of the course by the nbgitpuller
link that a class would be given, opens two lessons at once, and runs all their cells through the
server, as a browser does. Meanwhile the memory of each learner's processes is measured.

The result goes to `data/records/course/hub_trial.json`, from where `tools/guide.py` writes the
table of the instructors' guide.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import requests

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "data" / "records" / "course" / "hub_trial.json"
# What a one-day class opens, in its order: learner i takes lessons i and i + 1, around the end.
LESSONS = ("00", "01", "02", "03", "04", "06", "09", "12")
START_TIMEOUT_S = 300
CELL_TIMEOUT_S = 900
SAMPLE_S = 2.0


@dataclass
class LessonRun:
    """One lesson that one learner ran: cells done, the first failure if any, seconds of all."""

    lesson: str
    cells: int = 0
    seconds: float = 0.0
    failure: str = ""


@dataclass
class LearnerRun:
    """What one learner went through. Seconds are on the clock; memory is the peak, in MB."""

    name: str
    login_s: float = 0.0
    server_s: float = 0.0
    copy_s: float = 0.0
    lessons: list[LessonRun] = field(default_factory=list)
    peak_mb: float = 0.0
    failure: str = ""

    @property
    def failures(self) -> list[str]:
        own = [self.failure] if self.failure else []
        return own + [f"{run.lesson}: {run.failure}" for run in self.lessons if run.failure]


def lesson_pairs(lessons: Sequence[str], learners: int) -> list[tuple[str, str]]:
    """The two lessons of each learner.

    Raises:
        ValueError: fewer than two lessons, or no learner.
    """
    if len(lessons) < 2 or learners < 1:
        raise ValueError(f"two lessons and a learner are needed, got {lessons} and {learners}")
    return [(lessons[i % len(lessons)], lessons[(i + 1) % len(lessons)]) for i in range(learners)]


def notebook_paths(lessons: Sequence[str]) -> dict[str, str]:
    """The notebook of each lesson, relative to the repository.

    Raises:
        FileNotFoundError: a lesson has no notebook.
    """
    found = {}
    for number in lessons:
        paths = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
        if len(paths) != 1:
            raise FileNotFoundError(f"lesson {number!r}: expected one notebook, found {len(paths)}")
        found[number] = paths[0].relative_to(ROOT).as_posix()
    return found


# --- the hub -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hub:
    """A running hub of the trial."""

    url: str
    password: str
    token: str
    process: psutil.Process

    def server_process(self, name: str) -> psutil.Process | None:
        """The process of a learner's server, or None while there is none."""
        answer = requests.get(
            f"{self.url}/hub/api/users/{name}",
            headers={"Authorization": f"token {self.token}"},
            timeout=60,
        )
        servers = answer.json().get("servers", {}) if answer.ok else {}
        pid = (servers.get("", {}).get("state") or {}).get("pid")
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid) if pid else None
        return None


@contextmanager
def running_hub(folder: Path, work: Path, learners: int) -> Iterator[Hub]:
    """The hub that is installed in `folder`, with its state and the learners' homes in `work`.

    Raises:
        FileNotFoundError: the hub is not installed there.
        RuntimeError: it did not start; the message ends with its log.
    """
    program = folder / "env" / "bin" / "jupyterhub"
    if not program.exists():
        raise FileNotFoundError(f"no {program}: install it by `sh docs/jupyterhub/install.sh`")
    port, hub_port, api_port = free_ports(3)
    password, token = secrets.token_hex(8), secrets.token_hex(16)
    settings = {
        "ZOO_HUB": str(folder),
        "ZOO_HUB_STATE": str(work / "state"),
        "ZOO_HUB_URL": f"http://127.0.0.1:{port}",
        "ZOO_HUB_LEARNERS": str(learners),
        "ZOO_TRIAL_HUB_PORT": str(hub_port),
        "ZOO_TRIAL_API_PORT": str(api_port),
        "ZOO_TRIAL_PASSWORD": password,
        "ZOO_TRIAL_TOKEN": token,
        "ZOO_TRIAL_HOMES": str(work / "homes"),
    }
    config = ROOT / "docs" / "jupyterhub" / "trial_config.py"
    log = work / "hub.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, "-f", config],
            cwd=work,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = settings["ZOO_HUB_URL"]
        if not wait_until(lambda: answers(f"{url}/hub/health"), process, START_TIMEOUT_S):
            raise RuntimeError(f"the hub did not start:\n{log.read_text()[-3000:]}")
        yield Hub(url, password, token, psutil.Process(process.pid))
    finally:
        stop(process)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(url: str) -> bool:
    with suppress(requests.ConnectionError, requests.Timeout):
        return requests.get(url, timeout=5).ok
    return False


def wait_until(condition, process: subprocess.Popen, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return True
        time.sleep(0.5)
    return False


def stop(process: subprocess.Popen) -> None:
    """Ask the hub to end, with its proxy and all servers; then end what is left of its tree."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(60)
    _, left = psutil.wait_procs(family, timeout=10)
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.kill()
    process.wait()


# --- a learner ---------------------------------------------------------------------------------


class Learner:
    """A person with a browser, and two lessons to open."""

    def __init__(self, hub: Hub, name: str, link: dict[str, str]) -> None:
        self.hub, self.name, self.link = hub, name, link
        self.web = requests.Session()
        self.server = f"{hub.url}/user/{name}/"
        self.token = ""

    def log_in(self) -> None:
        """Through the form of the log-in page; then a token for this learner's own server."""
        page = self.web.get(f"{self.hub.url}/hub/login", timeout=START_TIMEOUT_S)
        page.raise_for_status()
        form = {"username": self.name, "password": self.hub.password, "_xsrf": self._xsrf()}
        done = self.web.post(
            f"{self.hub.url}/hub/login?next=/hub/home", data=form, timeout=START_TIMEOUT_S
        )
        done.raise_for_status()
        made = self._hub_api("post", f"users/{self.name}/tokens", json={"note": "trial"})
        self.token = made.json()["token"]

    def start_server(self) -> None:
        """Press "Start my server", and wait until it is there."""
        self._hub_api("post", f"users/{self.name}/server")
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            model = self._hub_api("get", f"users/{self.name}").json()
            if model.get("servers", {}).get("", {}).get("ready"):
                return
            time.sleep(1)
        raise TimeoutError(f"no server after {START_TIMEOUT_S} s")

    def fetch_course(self) -> None:
        """What the page behind an nbgitpuller link does: clone the course into the home."""
        url = f"{self.server}git-pull/api?{urlencode(self.link)}"
        with self.web.get(
            url, headers=self._token(), stream=True, timeout=START_TIMEOUT_S
        ) as answer:
            answer.raise_for_status()
            events = [json.loads(line[6:]) for line in answer.iter_lines() if line[:6] == b"data: "]
        if not events or events[-1].get("phase") != "finished":
            raise RuntimeError(f"the course was not copied: {events[-1:]}")

    def run_lesson(self, path: str, run: LessonRun) -> None:
        """Open a notebook and run all its cells; the first error ends the lesson, as Run All."""
        from jupyter_kernel_client import JupyterKernelClient

        notebook = self._server_api("get", f"contents/{path}").json()["content"]
        session = {"path": path, "type": "notebook", "name": path, "kernel": {"name": "python3"}}
        made = self._server_api("post", "sessions", json=session).json()
        started = time.monotonic()
        kernel = JupyterKernelClient(
            server_url=self.server,
            token=None,  # would go into the address, where JupyterHub takes none
            headers=self._token(),
            kernel_id=made["kernel"]["id"],
        )
        kernel.start()
        try:
            for index, cell in enumerate(notebook["cells"]):
                if cell["cell_type"] != "code" or "nbval-skip" in tags(cell):
                    continue
                reply = kernel.execute(cell["source"], timeout=CELL_TIMEOUT_S)
                if reply["status"] != "ok" and "raises-exception" not in tags(cell):
                    run.failure = f"cell {index}: {error_of(reply)}"
                    return
                run.cells += 1
        finally:
            run.seconds = round(time.monotonic() - started, 1)
            kernel.stop(shutdown_kernel=False)  # learners leave their lessons open

    def _xsrf(self) -> str:
        return next(cookie.value for cookie in self.web.cookies if cookie.name == "_xsrf")

    def _hub_api(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = self._token() if self.token else {"X-XSRFToken": self._xsrf()}
        return self._ask(method, f"{self.hub.url}/hub/api/{path}", headers, options)

    def _server_api(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._ask(method, f"{self.server}api/{path}", self._token(), options)

    def _ask(self, method, url, headers, options) -> requests.Response:
        headers = {**headers, "Referer": f"{self.hub.url}/hub/home"}
        answer = self.web.request(method, url, headers=headers, timeout=START_TIMEOUT_S, **options)
        answer.raise_for_status()
        return answer

    def _token(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}


def tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def error_of(reply: dict[str, Any]) -> str:
    """The last line of a cell's error."""
    for output in reply.get("outputs", []):
        if output.get("output_type") == "error":
            return f"{output['ename']}: {output['evalue']}".splitlines()[0][:200]
    return f"status {reply.get('status')}"


def live(learner: Learner, lessons: Sequence[tuple[str, str]], run: LearnerRun) -> None:
    """All that one learner does, into `run`. `lessons` are pairs of number and notebook."""
    try:
        for step, seconds in (
            (learner.log_in, "login_s"),
            (learner.start_server, "server_s"),
            (learner.fetch_course, "copy_s"),
        ):
            started = time.monotonic()
            step()
            setattr(run, seconds, round(time.monotonic() - started, 1))
    except Exception as error:  # a learner who does not get in is a result, not the end of it
        run.failure = f"{step.__name__}: {type(error).__name__}: {error}"[:300]
        return
    run.lessons = [LessonRun(number) for number, _ in lessons]
    folder = course_folder(learner.link)

    def one(lesson: LessonRun, path: str) -> None:
        try:
            learner.run_lesson(f"{folder}/{path}", lesson)
        except Exception as error:
            lesson.failure = f"{type(error).__name__}: {error}"[:300]

    with ThreadPoolExecutor(len(lessons)) as pool:
        for lesson, (_, path) in zip(run.lessons, lessons, strict=True):
            pool.submit(one, lesson, path)


def course_folder(link: dict[str, str]) -> str:
    """Where an nbgitpuller link puts the course in a learner's home."""
    return link.get("targetpath") or link["repo"].rstrip("/").split("/")[-1]


# --- memory ------------------------------------------------------------------------------------


class MemoryWatch(threading.Thread):
    """Samples the memory of the hub and of each learner's processes until it is stopped.

    Memory is PSS: what a process has for itself, and its share of what it has in common with
    others. So the sum over processes is what the machine must hold.
    """

    def __init__(self, hub: Hub, names: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.hub, self.names = hub, names
        self.peaks = dict.fromkeys(names, 0.0)
        self.room_mb = self.hub_mb = self.least_free_mb = 0.0
        self._servers: dict[str, psutil.Process] = {}
        self._ended = threading.Event()
        self._failure: Exception | None = None

    def run(self) -> None:
        self.least_free_mb = psutil.virtual_memory().available / 1e6
        try:
            while not self._ended.wait(SAMPLE_S):
                self.sample()
        except Exception as error:  # raised by `stop`: a thread's own would only be printed
            self._failure = error

    def sample(self) -> None:
        free = psutil.virtual_memory().available / 1e6
        self.least_free_mb = min(self.least_free_mb, free)
        total = 0.0
        for name in self.names:
            server = self._servers.get(name) or self.hub.server_process(name)
            if server is None:
                continue
            self._servers[name] = server
            used = pss_mb(family(server))
            self.peaks[name] = max(self.peaks[name], used)
            total += used
        theirs = {each.pid for server in self._servers.values() for each in family(server)}
        own = pss_mb([each for each in family(self.hub.process) if each.pid not in theirs])
        self.hub_mb = max(self.hub_mb, own)
        self.room_mb = max(self.room_mb, total + own)

    def stop(self) -> None:
        """End the sampling.

        Raises:
            RuntimeError: it had ended before, by an error, so that the peaks are too low.
        """
        self._ended.set()
        self.join()
        if self._failure is not None:
            raise RuntimeError("memory was not measured to the end") from self._failure


def family(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def pss_mb(processes: Sequence[psutil.Process]) -> float:
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += process.memory_full_info().pss
    return total / 1e6


# --- the trial ---------------------------------------------------------------------------------


def course_repository(work: Path) -> dict[str, str]:
    """A bare copy of this checkout's commits, and the nbgitpuller link's parameters for it."""
    bare = work / "course.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, bare], check=True)
    branch = subprocess.run(
        ["git", "-C", bare, "branch", "--show-current"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {"repo": f"file://{bare}", "branch": branch, "targetpath": "course", "depth": "1"}


def trial(folder: Path, lessons: Sequence[str], learners: int) -> dict[str, Any]:
    """Run the trial; the figures of its record."""
    pairs = lesson_pairs(lessons, learners)
    paths = notebook_paths(lessons)
    runs = [LearnerRun(f"learner{index + 1:02d}") for index in range(learners)]
    with tempfile.TemporaryDirectory(prefix="zoo-hub-") as temporary:
        work = Path(temporary)
        link = course_repository(work)
        with running_hub(folder, work, learners) as hub:
            started = time.monotonic()
            watch = MemoryWatch(hub, [run.name for run in runs])
            watch.start()
            with ThreadPoolExecutor(learners) as pool:
                for run, pair in zip(runs, pairs, strict=True):
                    print(f"{run.name}: lessons {' and '.join(pair)}", flush=True)
                    work_of = [(number, paths[number]) for number in pair]
                    pool.submit(live, Learner(hub, run.name, link), work_of, run)
            seconds = time.monotonic() - started
            watch.stop()
    for run in runs:
        run.peak_mb = round(watch.peaks[run.name])
    return {
        "learners": [{**asdict(run), "failures": run.failures} for run in runs],
        "seconds": round(seconds, 1),
        "failures": sum(len(run.failures) for run in runs),
        "room_mb": round(watch.room_mb),
        "hub_mb": round(watch.hub_mb),
        "least_free_mb": round(watch.least_free_mb),
        "median_peak_mb": round(statistics.median(run.peak_mb for run in runs)),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
    }


def machine() -> dict[str, Any]:
    """What it ran on, as in all records; the kernels' environment says it."""
    code = (
        "import json; from zoo_lessons.bench import describe_machine as d; print(json.dumps(d()))"
    )
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / "python", "-c", code], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def versions(folder: Path) -> dict[str, str]:
    """Versions of the hub's parts."""
    listed = subprocess.run(
        [folder / "env" / "bin" / "python", "-m", "pip", "list", "--format=json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    wanted = {"jupyterhub", "jupyterlab", "nbgitpuller", "jupyterhub-idle-culler"}
    found = {each["name"].lower(): each["version"] for each in json.loads(listed)}
    proxy = folder / "node_modules" / "configurable-http-proxy" / "package.json"
    return {
        **{name: version for name, version in sorted(found.items()) if name in wanted},
        "configurable-http-proxy": json.loads(proxy.read_text("utf8"))["version"],
    }


def summary(figures: dict[str, Any]) -> str:
    lines = []
    for run in figures["learners"]:
        lessons = ", ".join(f"{each['lesson']} {each['seconds']:.0f} s" for each in run["lessons"])
        state = "; ".join(run["failures"]) or "no failure"
        lines.append(f"{run['name']}: {lessons}, {run['peak_mb']:.0f} MB, {state}")
    lines.append(
        f"{figures['failures']} failures in {figures['seconds']:.0f} s; all together "
        f"{figures['room_mb'] / 1000:.1f} GB, of which the hub {figures['hub_mb']:.0f} MB"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--learners", type=int, default=10)
    parser.add_argument("--lessons", nargs="+", default=list(LESSONS), metavar="NN")
    parser.add_argument("--hub", type=Path, default=ROOT / "build" / "hub", help="where it is")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record to write")
    options = parser.parse_args(arguments)
    figures = trial(options.hub.resolve(), options.lessons, options.learners)
    usual = options.learners == 10 and options.lessons == list(LESSONS)
    extra = f" --learners {options.learners} --lessons {' '.join(options.lessons)}"
    record = {
        "experiment": "hub_trial",
        "command": f"build/hub/env/bin/python tools/hub_trial.py{'' if usual else extra}",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": figures["seconds"],
        "machine": machine(),
        "versions": versions(options.hub.resolve()),
        "figures": figures,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf8")
    print(summary(figures))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
