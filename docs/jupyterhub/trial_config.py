"""The class's JupyterHub with simulated learners: what `tools/hub_trial.py` starts.

All of `jupyterhub_config.py` holds but accounts and spawner: any name with the trial's password
may come in, and all servers run under the account that started the trial, each with a home of its
own. Only for loopback.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821
# By its whole path: a relative one that is not found would be passed over in silence.
load_subconfig(str(Path(__file__).resolve().parent / "jupyterhub_config.py"))  # noqa: F821

c.JupyterHub.hub_port = int(os.environ["ZOO_TRIAL_HUB_PORT"])
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['ZOO_TRIAL_API_PORT']}"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = os.environ["ZOO_TRIAL_PASSWORD"]
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = os.environ["ZOO_TRIAL_HOMES"] + "/{username}"
if os.geteuid() == 0:  # only here: for a class, each server runs under its learner's account
    c.Spawner.args = [*c.Spawner.args, "--allow-root"]
c.JupyterHub.services = [
    *c.JupyterHub.services,
    {"name": "trial", "api_token": os.environ["ZOO_TRIAL_TOKEN"]},
]
c.JupyterHub.load_roles = [
    *c.JupyterHub.load_roles,
    # To read the process ids whose memory it measures.
    {
        "name": "trial",
        "scopes": ["read:users", "read:servers", "admin:server_state"],
        "services": ["trial"],
    },
]
