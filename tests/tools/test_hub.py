"""The class's JupyterHub: its configuration loads, and the trial's parts do what they say.

The hub itself is not among the packages that the tests install (half a gigabyte). Where
`docs/jupyterhub/install.sh` has put it into build/hub, one test starts it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest
from traitlets.config.loader import PyFileConfigLoader

from tools import hub_trial

FOLDER = hub_trial.ROOT / "docs" / "jupyterhub"
HUB = hub_trial.ROOT / "build" / "hub"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load one of the configurations, with settings."""

    def load(name, **settings):
        names = ("HUB_PORT", "API_PORT", "PASSWORD", "TOKEN", "HOMES")
        trial = {f"ZOO_TRIAL_{each}": "8123" for each in names}
        known = {"ZOO_HUB": str(tmp_path), "ZOO_HUB_STATE": str(tmp_path / "state")}
        for key, value in {**trial, **known, **settings}.items():
            monkeypatch.setenv(key, value)
        return PyFileConfigLoader(str(FOLDER / name)).load_config()

    return load


def test_the_class_configuration_uses_accounts_limits_and_the_shared_environment(load, tmp_path):
    config = load("jupyterhub_config.py", ZOO_HUB_LEARNERS="10", ZOO_HUB_KERNEL_GB="3")
    assert config.JupyterHub.spawner_class == "localprocess"
    assert config.JupyterHub.authenticator_class == "pam"
    assert config.LocalAuthenticator.allowed_groups == {"learners", "teachers"}
    if shutil.which("prlimit"):
        assert "--data=3000000000" in config.Spawner.cmd
    assert config.Spawner.cmd[-1] == str(tmp_path / "env" / "bin" / "jupyterhub-singleuser")
    environment = config.Spawner.environment
    assert environment["JUPYTER_PATH"].split(os.pathsep) == [
        str(tmp_path / "share" / "jupyter"),
        str(hub_trial.ROOT / ".venv" / "share" / "jupyter"),
    ]
    assert environment["OMP_NUM_THREADS"] == str(max(1, os.cpu_count() // 10))
    assert "idle-culler" in [service["name"] for service in config.JupyterHub.services]
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0, "state holds the cookies' secret"


def test_the_trial_changes_accounts_and_spawner_only(load):
    ours, trial = load("jupyterhub_config.py"), load("trial_config.py")
    assert trial.JupyterHub.spawner_class == "simple"
    assert trial.JupyterHub.authenticator_class == "dummy"
    assert trial.Spawner.cmd == ours.Spawner.cmd
    assert trial.Spawner.environment == ours.Spawner.environment
    assert [s for s in trial.Spawner.args if s != "--allow-root"] == ours.Spawner.args
    assert [service["name"] for service in trial.JupyterHub.services] == ["idle-culler", "trial"]


def test_the_hub_is_pinned_and_takes_jupyterlab_from_the_course():
    lines = (FOLDER / "requirements.txt").read_text("utf8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    ours = (hub_trial.ROOT / "requirements.txt").read_text("utf8")
    assert all("==" in pin or f"\n{pin}==" in ours for pin in pins if pin != "jupyterlab")
    assert "jupyterlab" in pins and "\njupyterlab==" in ours
    assert "--constraint" in (FOLDER / "install.sh").read_text("utf8")


def test_each_learner_gets_two_neighbouring_lessons():
    assert hub_trial.lesson_pairs(["00", "01", "02"], 4) == [
        ("00", "01"),
        ("01", "02"),
        ("02", "00"),
        ("00", "01"),
    ]
    with pytest.raises(ValueError, match="two lessons and a learner are needed"):
        hub_trial.lesson_pairs(["00"], 1)


def test_the_trials_lessons_exist():
    paths = hub_trial.notebook_paths(hub_trial.LESSONS)
    assert all((hub_trial.ROOT / path).exists() for path in paths.values())
    with pytest.raises(FileNotFoundError, match="lesson 'xx': expected one notebook, found 0"):
        hub_trial.notebook_paths(["xx"])


def test_an_error_comes_down_to_its_last_line():
    error = {"output_type": "error", "ename": "ValueError", "evalue": "got 3\nexpected 4"}
    assert hub_trial.error_of({"status": "error", "outputs": [error]}) == "ValueError: got 3"
    assert hub_trial.error_of({"status": "aborted", "outputs": []}) == "status aborted"


def test_where_a_link_puts_the_course():
    assert hub_trial.course_folder({"repo": "https://x/a/b", "targetpath": "course"}) == "course"
    assert hub_trial.course_folder({"repo": "https://x/a/b/"}) == "b"


def test_a_learner_who_does_not_get_in_is_a_failure_of_the_trial_not_its_end():
    class Locked(hub_trial.Learner):
        def log_in(self):
            raise ConnectionError("no hub")

    hub = hub_trial.Hub("http://127.0.0.1:1", "x", "x", psutil.Process())
    run = hub_trial.LearnerRun("learner01")
    hub_trial.live(Locked(hub, "learner01", {"repo": "r"}), [("00", "n.ipynb")], run)
    assert run.failures == ["log_in: ConnectionError: no hub"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="PSS is Linux's")
def test_memory_of_a_process_tree_is_positive_and_bounded():
    used = hub_trial.pss_mb([psutil.Process()])
    assert 1 < used <= psutil.Process().memory_info().rss / 1e6 * 1.1


def test_memory_that_was_not_measured_to_the_end_is_an_error(monkeypatch):
    monkeypatch.setattr(hub_trial, "SAMPLE_S", 0.01)
    # Nobody listens on port 1: the first sample cannot ask the hub for a learner's server.
    hub = hub_trial.Hub("http://127.0.0.1:1", "x", "x", psutil.Process())
    watch = hub_trial.MemoryWatch(hub, ["learner01"])
    watch.start()
    watch.join(60)
    with pytest.raises(RuntimeError, match="not measured to the end"):
        watch.stop()


@pytest.mark.skipif(
    not (HUB / "env").exists(), reason="no hub in build/hub: sh docs/jupyterhub/install.sh"
)
def test_a_learner_logs_in_and_gets_a_kernel_of_the_course(tmp_path):
    with hub_trial.running_hub(HUB, tmp_path, learners=1) as hub:
        learner = hub_trial.Learner(hub, "anna", {"repo": "unused"})
        learner.log_in()
        learner.start_server()
        specs = learner._server_api("get", "kernelspecs").json()["kernelspecs"]
        argv = specs["python3"]["spec"]["argv"]
        assert argv[0] == str(hub_trial.ROOT / ".venv" / "bin" / "python")
        assert hub.server_process("anna").is_running()
        assert (tmp_path / "homes" / "anna").is_dir()
    assert not psutil.pid_exists(hub.process.pid)
