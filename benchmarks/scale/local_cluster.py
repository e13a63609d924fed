"""A real Ray cluster on this machine: its nodes are processes on the loopback address, which can be killed and added.

Each node has a folder for temporary files and a data folder of its own, so that none finds what another has left.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables by which Ray keeps to the loopback address, as it does by itself on other systems; for whoever
joins the cluster too."""


@dataclass(frozen=True)
class LocalNode:
    """A node, and the folder that it has for temporary files."""

    processes: Any
    folder: Path


class LocalCluster:
    """A head, on which no run is done, and nodes."""

    def __init__(self, place: Path) -> None:
        os.environ.update(LOOPBACK)
        from ray.cluster_utils import Cluster

        self._place, self._numbers = place, itertools.count()
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "node_ip_address": "127.0.0.1",
                "include_dashboard": False,
                # A lost machine is noticed within seconds.
                "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 3},
            },
        )

    @property
    def address(self) -> str:
        """Where it can be joined: `--on ray:ADDRESS`."""
        return str(self._cluster.address)

    def add(self, cores: int = 1, data: Path | None = None, variables: Mapping[str, str] | None = None) -> LocalNode:
        """Start a node with so many cores and its data in a folder, and wait until it can be used."""
        own = self._place / f"node{next(self._numbers)}"
        own.mkdir(parents=True)
        environment = {"TMPDIR": str(own), **({"CLBENCH_DATA": str(data)} if data else {}), **(variables or {})}
        node = self._cluster.add_node(num_cpus=cores, env_vars=environment, node_ip_address="127.0.0.1")
        self._cluster.wait_for_nodes()
        return LocalNode(node, own)

    def kill(self, node: LocalNode) -> None:
        """Kill a node and what runs on it, as a power cut would."""
        self._cluster.remove_node(node.processes, allow_graceful=False)

    def stop(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


@contextmanager
def local_cluster(place: Path) -> Iterator[LocalCluster]:
    """Within, there is a cluster without nodes."""
    cluster = LocalCluster(place)
    try:
        yield cluster
    finally:
        cluster.stop()
