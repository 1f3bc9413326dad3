#!/usr/bin/env python3
"""Open JupyterLab on the first lesson; further arguments go to JupyterLab.

.venv/bin/python tools/start_lab.py --no-browser --port 9999
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_PAGE = "/lab/tree/notebooks/00_start_here.ipynb"
USUAL_PORT, LAST_PORT = 8888, 8987


def is_free(ip: str, port: int) -> bool:
    """Can a server listen there? A plain connect would miss servers on other addresses."""
    with socket.socket() as probe:
        if os.name == "posix":  # a port in TIME_WAIT is free; on Windows the option means more
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def choose_port(ip: str, wanted: int | None) -> int:
    """The wanted port, or else the first free one from Jupyter's usual port on.

    JupyterLab itself would move to another port without a word, even from one that was asked for.

    Raises:
        SystemExit: the wanted port is in use; the message says what to do.
    """
    if wanted is not None:
        if not is_free(ip, wanted):
            sys.exit(
                f"Port {wanted} is in use: choose another one, as in "
                f"'make lab ARGS=\"--port {wanted + 1}\"', or stop the program that uses it."
            )
        return wanted
    port = next((port for port in range(USUAL_PORT, LAST_PORT) if is_free(ip, port)), None)
    if port is None:
        sys.exit(f"No port from {USUAL_PORT} to {LAST_PORT - 1} is free: name one with --port.")
    if port != USUAL_PORT:
        print(f"Port {USUAL_PORT} is in use, so this JupyterLab uses {port}.", flush=True)
    return port


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Open JupyterLab on the first lesson.", allow_abbrev=False
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 8888")
    parser.add_argument("--ip", default="127.0.0.1")
    options, further = parser.parse_known_args()
    arguments = [
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url={FIRST_PAGE}",
        f"--ServerApp.ip={options.ip}",
        f"--ServerApp.port={choose_port(options.ip, options.port)}",
        "--ServerApp.port_retries=0",
        # Without it, each kernel warns here that somebody might listen in on this computer.
        "--KernelManager.transport_encryption=auto",
        # Leaves the address to open, and what goes wrong.
        "--ServerApp.log_level=WARN",
        "--LabApp.log_level=WARN",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # a container: Jupyter would refuse to start
    print("Starting JupyterLab; press Ctrl+C twice here to stop it.", flush=True)

    from jupyterlab.labapp import main as jupyterlab

    jupyterlab([*arguments, *further])


if __name__ == "__main__":
    main()
