#!/bin/sh
# Install JupyterHub for the course into FOLDER; by default build/hub in the checkout.
#
#     sh docs/jupyterhub/install.sh [FOLDER]
#
# It needs the course's .venv (`make lab` makes it), and Node.js 18 or newer with npm. It changes
# nothing in .venv: the hub and the learners' JupyterLab live in FOLDER/env, and only the lessons'
# kernels run in .venv, which learners may read and need not write.
set -eu
course=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$course/build/hub}
command -v npm >/dev/null || { echo "npm is missing: install Node.js 18 or newer." >&2; exit 1; }
test -x "$course/.venv/bin/python" || { echo ".venv is missing: run 'make lab' once." >&2; exit 1; }

mkdir -p "$folder"
"$course/.venv/bin/python" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$course/docs/jupyterhub/requirements.txt" \
    --constraint "$course/requirements.txt"
npm install --silent --no-audit --no-fund --prefix "$folder" configurable-http-proxy@5.3.0
# The kernel that all learners share: the course's environment, by its absolute path.
rm -rf "$folder/share/jupyter/kernels/python3"
"$course/.venv/bin/python" -c '
import sys
from ipykernel.kernelspec import write_kernel_spec
write_kernel_spec(sys.argv[1])
' "$folder/share/jupyter/kernels/python3"
# As in .venv: JupyterLab shall not ask each learner about news, which would be a request outside.
mkdir -p "$folder/env/etc/jupyter/labconfig"
echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' \
    > "$folder/env/etc/jupyter/labconfig/page_config.json"
echo "JupyterHub is in $folder. Start it with:"
echo "    ZOO_HUB=$folder $folder/env/bin/jupyterhub -f $course/docs/jupyterhub/jupyterhub_config.py"
