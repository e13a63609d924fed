"""The JSON schemas of a run's files, published in `schemas/`; `python -m clbench.results.json_schemas` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from clbench.results.network_record import NetworkRecord
from clbench.results.record_model import Record
from clbench.results.run_costs import RunCosts
from clbench.results.run_result import RunResult
from clbench.results.run_spec import RunSpec

FOLDER = Path(__file__).parent / "schemas"
_RECORDS: dict[str, type[Record]] = {"spec": RunSpec, "result": RunResult, "costs": RunCosts, "network": NetworkRecord}


def json_schemas() -> dict[str, str]:
    """Return the JSON schema of spec.json, result.json, costs.json and network.json, by the name of its file."""
    return {
        f"{name}.schema.json": json.dumps(record.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
        for name, record in _RECORDS.items()
    }


if __name__ == "__main__":
    for file, text in json_schemas().items():
        (FOLDER / file).write_text(text)
