"""Has a command forked by forking.py, which listens at the first argument; the command is in the others.

The forked process has this one's streams, folder and environment. Both end together, whichever ends first, and this one
ends at the latest with the process that started it.
"""

import ctypes
import json
import os
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1  # see prctl(2)

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
address, _, _, _, path, *command = sys.argv[1:]  # see own_python.module_command
here = os.getcwd()  # noqa: PTH109 - importing pathlib takes longer than all of this
order = {"path": path, "command": command, "cwd": here, "environment": dict(os.environ), "session": True}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(address)
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps(order).encode() + b"\n")
    for stream in (0, 1, 2):
        os.close(stream)  # they are the forked process's now
    code = int(server.recv(32))
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
