"""JupyterHub for one class on one Linux server: local accounts, local processes.

    ZOO_HUB=FOLDER FOLDER/env/bin/jupyterhub -f docs/jupyterhub/jupyterhub_config.py

FOLDER is what `install.sh` made. `docs/instructors.md` says how to prepare the server, and what of
this was tried. Change the numbers by the variables below, or here.
"""

import os
import shutil
import sys
from pathlib import Path

c = get_config()  # noqa: F821

COURSE = Path(__file__).resolve().parents[2]
HUB = Path(os.environ.get("ZOO_HUB", COURSE / "build" / "hub")).resolve()
STATE = Path(os.environ.get("ZOO_HUB_STATE", HUB / "state")).resolve()
LEARNERS = int(os.environ.get("ZOO_HUB_LEARNERS", 10))  # how many work at the same time
KERNEL_GB = float(os.environ.get("ZOO_HUB_KERNEL_GB", 4))  # no process of a learner may hold more
ENV_BIN = HUB / "env" / "bin"

STATE.mkdir(mode=0o700, parents=True, exist_ok=True)

# --- The hub. Behind a reverse proxy with TLS, or with c.JupyterHub.ssl_key and ssl_cert here.
c.JupyterHub.bind_url = os.environ.get("ZOO_HUB_URL", "http://127.0.0.1:8000")
c.JupyterHub.db_url = f"sqlite:///{STATE / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")
c.ConfigurableHTTPProxy.command = [str(HUB / "node_modules" / ".bin" / "configurable-http-proxy")]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
c.JupyterHub.concurrent_spawn_limit = LEARNERS  # a whole class logs in within the same minute

# --- Who may come in: accounts of this server (PAM) in the group "learners"; "teachers" see the
# admin page, where a learner's server can be restarted.
c.JupyterHub.authenticator_class = "pam"
c.LocalAuthenticator.allowed_groups = {"learners", "teachers"}
c.LocalAuthenticator.admin_groups = {"teachers"}

# --- A learner's server: a process of the learner's own account.
c.JupyterHub.spawner_class = "localprocess"
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = 120  # ten servers that start at once on two cores take their time
c.Spawner.http_timeout = 120
# prlimit (util-linux) holds for the server and for each kernel alone: a cell that asks for more
# gets a MemoryError, and the neighbours go on working. With systemd, SystemdSpawner's mem_limit
# and cpu_limit hold for all of a learner's processes together.
PRLIMIT = shutil.which("prlimit")
LIMIT = [PRLIMIT, f"--data={int(KERNEL_GB * 1e9)}", "--"] if PRLIMIT else []
c.Spawner.cmd = [*LIMIT, str(ENV_BIN / "jupyterhub-singleuser")]
c.Spawner.args = [
    # A kernel keeps a lesson's models in memory. One that nobody looks at any more ends.
    "--MappingKernelManager.cull_idle_timeout=1200",
    "--MappingKernelManager.cull_interval=120",
    # Without it, each kernel warns that somebody might listen in on this computer.
    "--KernelManager.transport_encryption=auto",
]
THREADS = str(max(1, (os.cpu_count() or 1) // LEARNERS))
c.Spawner.environment = {
    # Kernels and the widgets' half that runs in the browser come from the course's environment.
    "JUPYTER_PATH": os.pathsep.join(
        [str(HUB / "share/jupyter"), str(COURSE / ".venv/share/jupyter")]
    ),
    # PyTorch would start as many threads as there are cores, in each kernel of each learner.
    "OMP_NUM_THREADS": THREADS,
    "MKL_NUM_THREADS": THREADS,
    # The environment is shared and read-only; do not even try to write compiled files there.
    "PYTHONDONTWRITEBYTECODE": "1",
}

# --- Servers that nobody uses give their memory back after an hour.
c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]
