"""Reads what trackers wrote, each with the tracker's own code: values by name as (step, value)."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Written:
    """What a tracker has of one run."""

    experiment: str
    status: Any
    config: dict[str, Any]
    values: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))


def tensorboard(folder: Path) -> dict[str, Written]:
    """By run, from the event files below `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    found = {}
    for place in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(place), {"scalars": 0}, purge_orphaned_data=True).Reload()
        content = events.PluginTagToContent("hparams")
        data = {tag: plugin_data_pb2.HParamsPluginData.FromString(content[tag]) for tag in content}
        given = data["_hparams_/session_start_info"].session_start_info.hparams
        config = {name: getattr(value, value.WhichOneof("kind")) for name, value in given.items()}
        status = data["_hparams_/session_end_info"].session_end_info.status
        experiment, *name = place.relative_to(folder).parts
        written = found["/".join(name)] = Written(experiment, status, config)
        for tag in events.Tags()["scalars"]:
            written.values[tag] = [(each.step, each.value) for each in events.Scalars(tag)]
    return found


def wandb(folder: Path) -> dict[str, list[Written]]:
    """By run, each time that it was begun, from the offline files below `folder`."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = defaultdict(list)
    for path in sorted(folder.glob("offline-run-*/run-*.wandb")):
        for record in map(Record.FromString, _log_records(path.read_bytes())):
            if record.HasField("run"):
                config = {each.key: json.loads(each.value_json) for each in record.run.config.update}
                written = Written(record.run.run_group, None, config)
                assert record.run.run_id in path.name
                found[record.run.display_name].append(written)
            elif record.HasField("history"):
                values = {each.key or "/".join(each.nested_key): each for each in record.history.item}
                for name, each in values.items():
                    if not name.startswith("_"):
                        written.values[name].append((record.history.step.num, json.loads(each.value_json)))
            elif record.HasField("exit"):
                written.status = record.exit.exit_code
    return found


def _log_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind W&B's header; W&B itself reads it in Go."""
    place, whole = 7, b""
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:  # the rest of a block
            place += left
            continue
        length, kind = struct.unpack("<xxxxHB", content[place : place + 7])
        part = content[place + 7 : place + 7 + length]
        place += 7 + length
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole


def mlflow(database: Path) -> dict[str, Written]:
    """By run, from a SQLite file."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = {each.experiment_id: each.name for each in client.search_experiments()}
    found = {}
    for run in client.search_runs(list(experiments)):
        assert run.info.run_name not in found
        written = Written(experiments[run.info.experiment_id], run.info.status, dict(run.data.params))
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            written.values[name] = [(each.step, each.value) for each in history]
        found[run.info.run_name] = written
    return found


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind in an events.jsonl."""
    return [event for line in path.read_text().splitlines() if (event := json.loads(line))["event"] == kind]
