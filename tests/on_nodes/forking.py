"""Forks the worker processes of Ray nodes from a process that has imported torch, for the stand-ins in stand_in.py.

`python -m on_nodes.forking ADDRESS`, in the folder above, listens at ADDRESS until it is killed.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from warm_start import become, import_all


def main(address: str) -> None:
    """Import, then fork for each stand-in a process that watches it, and from that the worker process."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        import_all()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    become(_forked(client))


def _forked(client: socket.socket) -> dict[str, Any]:
    """Fork the process of a stand-in, and return its order there. Here, wait until one of them ends, and end both."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    order: dict[str, Any] = json.loads(client.makefile().readline())
    child = os.fork()
    if child == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return order
    for number in (0, 1, 2, *streams):
        os.close(number)
    ended = os.pidfd_open(child)
    if ended not in select.select([client, ended], [], [])[0]:  # the stand-in was killed
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        client.send(str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
