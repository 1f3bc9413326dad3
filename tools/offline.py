#!/usr/bin/env python3
"""Run a command where the only network is loopback.

    python tools/offline.py COMMAND ARGUMENT...

Uses a Linux network namespace, so whatever the command starts (kernels, browser) is cut off too.
Where namespaces are not available it says so and runs the command with the network on; in CI, with
CI=true, it fails instead. Inside, the variable ZOO_OFFLINE is 1.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys

UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
# From Linux's <linux/sockios.h> and <net/if.h>.
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def bring_loopback_up() -> None:
    """What `ip link set lo up` does, without the iproute2 package."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def can_unshare() -> bool:
    if not shutil.which(UNSHARE[0]):
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--inside"]:
        bring_loopback_up()
        os.environ["ZOO_OFFLINE"] = "1"
        os.execvp(arguments[1], arguments[1:])
    if can_unshare():
        inside = [sys.executable, os.path.abspath(__file__), "--inside", *arguments]
        os.execvp(UNSHARE[0], [*UNSHARE, *inside])
    sentence = "This machine gives no network namespace (Linux's 'unshare --user --net'), so"
    if os.environ.get("CI") == "true":
        print(f"{sentence} nothing proves that the course works offline.", file=sys.stderr)
        return 1
    print(f"{sentence} the tests run with the network on.", flush=True)
    return subprocess.run(arguments).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
