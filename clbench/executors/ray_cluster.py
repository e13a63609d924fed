"""Joins or starts a Ray cluster for a command, and reports on its machines."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import ray
from ray._private import ray_constants
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from clbench.errors import MachineError
from clbench.system.machine import available_cores

_CONNECTION_SECONDS = 10.0
_AUTH_MODE = "RAY_AUTH_MODE"


def join_or_start(address: str | None) -> bool:
    """Join the cluster at `address`, or one that runs on this machine; without either, start one and return True.

    Raises MachineError if there is none at the address.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with _own_signals():
        try:
            if address:
                _require_answer(address)
            try:
                ray.init(address=address or "auto", **quiet)
            except ConnectionError:
                if not (address and _token_enabled()):
                    raise
                ray.init(address=address, **quiet)
            return False
        except (ConnectionError, ValueError, RuntimeError, AssertionError, OSError) as error:
            if address:
                raise MachineError(
                    f"no Ray cluster can be joined at {address}: {str(error).partition(chr(10))[0]}",
                    "Start one there with `ray start --head`, or start one here: --on ray. If it asks for a token, "
                    "this machine needs the same one, in ~/.ray/auth_token.",
                ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # our own cluster reports its use to nobody
        _keep_to_this_machine()
        ray.init(
            address="local",
            num_cpus=available_cores(),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return True


def _token_enabled() -> bool:
    """Have Ray show this user's token from now on; return False if there is none, or if its use is set already.

    Recent versions of `ray start` ask for a token as soon as their user has one. Ray itself shows it only to a cluster
    that it finds without an address, and then cannot work on one that asks for none.
    """
    if _AUTH_MODE in os.environ:
        return False
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:  # an earlier version
        return False
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that there is a token, or none
    try:
        return bool(maybe_enable_token_auth_if_token_available())
    finally:
        logging.disable(disabled)


def _keep_to_this_machine() -> None:
    """Make a cluster that is started from now on listen only on the loopback address, as Ray does on other systems.

    Otherwise anyone who can reach this machine could run code on it. Ray read the variable when it was imported, before
    it was known whether a cluster elsewhere is joined; the processes that it starts read it again.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def raise_file_limit(files: int) -> None:
    """Allow this process somewhat more than this many open files, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 500
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _require_answer(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTION_SECONDS).close()


def resources() -> dict[str, float]:
    """Return the resources of the whole cluster, used or not."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def machines() -> list[dict[str, float]]:
    """Return the resources of each machine of the cluster, used or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def working_nodes() -> list[str]:
    """Return the ids of the machines of the cluster that can execute runs; a head is often given no cores."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0]


def on_node(node: str | None, what: Any) -> Any:
    """Return a function as a task, or a class as an actor, that needs no core, on the machine that is named, if any."""
    strategy = None if node is None else NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(what).options(num_cpus=0, scheduling_strategy=strategy)


class WithoutRays(io.TextIOBase):
    """Standard output without Ray's long messages about its machines, which no option turns off.

    Their first sentences are kept.
    """

    def __init__(self, stream: TextIO, said: list[str]) -> None:
        self._stream, self._own, self._ends_line = stream, said, False

    def write(self, text: str) -> int:
        """Write the text, or keep it if it is Ray's own."""
        if "(raylet" in text[:20]:
            message = text.partition(")")[2].removeprefix("\x1b[0m").strip()
            self._own.append(message.partition("\n")[0].partition(". ")[0].rstrip(".") + ".")
            self._ends_line = True
        elif not (self._ends_line and text == "\n"):
            self._ends_line = False
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what has been written."""
        self._stream.flush()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the handlers of Ctrl-C and SIGTERM at the end of this context: Ray replaces them."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
