"""A real Ray cluster on this machine: its nodes are processes on the loopback address that can be added and killed.

Each node has its own folders for temporary files and data, so that no node finds files of another.
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
"""Environment variables that keep Ray on the loopback address, as is its default on other systems; every process that
joins the cluster needs them too."""


@dataclass(frozen=True)
class LocalNode:
    """A node and its folder for temporary files."""

    processes: Any
    folder: Path


class LocalCluster:
    """A head, which executes no runs, and nodes."""

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
        """The address for joining the cluster: `--on ray:ADDRESS`."""
        return str(self._cluster.address)

    def add(self, cores: int = 1, data: Path | None = None, variables: Mapping[str, str] | None = None) -> LocalNode:
        """Start a node with `cores` cores and its data in the folder `data`, and wait until it is ready."""
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
        """Stop the whole cluster."""
        self._cluster.shutdown()


@contextmanager
def local_cluster(place: Path) -> Iterator[LocalCluster]:
    """Provide, within the context, a cluster without nodes."""
    cluster = LocalCluster(place)
    try:
        yield cluster
    finally:
        cluster.stop()
