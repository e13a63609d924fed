"""The TensorBoard tracker, which writes event files to a folder per run, named by experiment and run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.trackers.tracker import Status, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Writes scalars by gradient step, and the config as hyper-parameters."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._writers: dict[str, Any] = {}

    def where(self) -> str:
        """See Tracker."""
        return f"tensorboard --logdir {self.folder}"

    def begin(self, run: TrackedRun) -> None:
        """See Tracker. TensorBoard discards what was written after the step from which the run resumes."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        earlier = sorted(self.folder.glob(f"*/{run.name}")) if run.step else []
        folder = earlier[0] if earlier else self.folder / run.experiment / run.name
        writer = self._writers[run.name] = EventFileWriter(str(folder), flush_secs=5)
        start = SessionLog(status=SessionLog.START)
        writer.add_event(Event(wall_time=time.time(), step=run.step + 1, session_log=start))
        self._write(run, 0, hparams_pb(run.config, trial_id=run.run_id))

    def log(self, run: TrackedRun, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(run, step, Summary(value=scalars))

    def end(self, run: TrackedRun, status: Status) -> None:
        """See Tracker."""
        self._write(run, 0, _session_end(status))
        self._writers.pop(run.name).close()

    def _write(self, run: TrackedRun, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writers[run.name].add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _session_end(status: Status) -> Any:
    """Return how a run ended, for the page of hyper-parameters; TensorBoard's own function needs TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    ended = {
        "finished": api_pb2.STATUS_SUCCESS,
        "failed": api_pb2.STATUS_FAILURE,
        "interrupted": api_pb2.STATUS_UNKNOWN,
    }
    data = plugin_data_pb2.HParamsPluginData(
        version=metadata.PLUGIN_DATA_VERSION,
        session_end_info=plugin_data_pb2.SessionEndInfo(status=ended[status], end_time_secs=time.time()),
    )
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=SummaryMetadata(plugin_data=plugin))
    return Summary(value=[value])
