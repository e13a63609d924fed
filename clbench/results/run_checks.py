"""Checks that a folder is a valid run: files against manifest, metrics against counts, counts against predictions."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from clbench.base.incremental_setting import Setting
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count, require
from clbench.evaluation.curve import Curve
from clbench.evaluation.forward_transfer import Ahead, count_ahead, forward_transfer
from clbench.results import manifests
from clbench.results.command import command_of_schema_1
from clbench.results.environment import Environment
from clbench.results.pack import PackedRun
from clbench.results.record_model import SCHEMA
from clbench.results.run_costs import RunCosts
from clbench.results.run_facts import FactsRow, ends_of, row_of
from clbench.results.run_files import RunFiles
from clbench.results.run_result import RunResult
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.results.stored_run import Unreadable, json_file, predictions


def checked(files: RunFiles) -> FactsRow | Unreadable:
    """Check a run completely, and return its facts."""
    path = files.path
    if problem := files.damage():
        return Unreadable(path, problem)
    try:
        spec_json = json_file(files, "spec")
        if problem := _other_schema(files, from_json(spec_json)):
            return Unreadable(path, problem, other_schema=True)
        spec = RunSpec.model_validate_json(spec_json)
        result = RunResult.model_validate_json(json_file(files, "result"))
        costs = RunCosts.model_validate_json(json_file(files, "costs"))
        Environment.model_validate_json(json_file(files, "environment"))
        problem = _disagreement(files, spec, result, costs)
        if isinstance(files, PackedRun) and files.name != folder_name(spec):
            problem = f"its spec is that of {folder_name(spec)}"
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"]))
        problem = f"its {error.title} is not valid: {place}{': ' if place else ''}{first['msg']}"
    except MemoryError:
        return Unreadable(path, "there is not enough memory to read it", too_large=True)
    except Exception as error:  # whatever the parsers of JSON, Python, zip and arrays make of a stranger's bytes
        problem = f"{type(error).__name__}: {error}"
    return Unreadable(path, problem) if problem else row_of(spec, result, costs)


def _other_schema(files: RunFiles, spec: dict[str, Any]) -> str | None:
    """Return why a run of another schema is not read, and the command that reproduces it; None for this schema."""
    if (schema := spec["schema"]) == SCHEMA:
        return None
    problem = f"it has schema {schema}, and this version of clbench reads schema {SCHEMA}"
    if schema > SCHEMA:
        return f"{problem}; update clbench to read it"
    source = files.read("strategy.py", manifests.LARGEST_JSON)
    return f"{problem}; run it again with: {command_of_schema_1(spec, source)}"


def _disagreement(files: RunFiles, spec: RunSpec, result: RunResult, costs: RunCosts) -> str | None:
    """Return which part of a run contradicts another, or None."""
    identity = run_id(spec)
    for name, belongs_to in (("result.json", result.run_id), ("costs.json", costs.run_id)):
        if belongs_to != identity:
            return f"{name} belongs to another spec"
    scenario, classes = spec.scenario, experience_classes(spec)
    if tuple(map(len, classes)) != scenario.classes_per_experience or sum(map(len, classes)) < len(
        scenario.class_order
    ):
        return "its class order does not have as many classes as its experiences"
    if scenario.class_names is not None and len(scenario.class_names) <= max(scenario.class_order):
        return "its class order has classes without a name"
    if result.ahead is not None and scenario.setting != "domain_incremental":
        return "its experiences share no outputs, so they cannot be evaluated before they are learned"
    if result.curves and set(result.curves) != set(scenario.readings):
        return "its curves are not for the settings in which it is read"
    if result.training_images is not None and len(result.training_images) != sum(map(len, classes)):
        return "its training images are not for as many classes as it has"
    arrays = predictions(files)
    for name in ("labels", *scenario.readings, *(["untrained"] if result.ahead is not None else [])):
        if name not in arrays:
            return f"its predictions.npz has no array `{name}`"
    for setting in scenario.readings:
        counts = Counts(**dict(result.counts[setting]))
        evaluated = [row is not None for row in counts.correct]
        if count(arrays[setting], arrays["labels"], classes, evaluated, setting=setting) != counts:
            return f"its {setting} counts do not follow from its predictions"
        curve = _curve(result, setting, counts)
        derived = metrics.derive(counts, curve)
        if result.ahead is not None:
            ahead = Ahead(**dict(result.ahead))
            if count_ahead(arrays[setting], arrays["untrained"], arrays["labels"], classes, evaluated) != ahead:
                return "its counts of domains before they were learned do not follow from its predictions"
            derived["forward_transfer"] = forward_transfer(counts, ahead)
        if any(name not in derived or derived[name] != value for name, value in result.metrics[setting].items()):
            return f"its {setting} metrics do not follow from its counts"
        if list(result.chance[setting]) != metrics.chance(scenario.classes_per_experience, counts.total)[setting]:
            return f"its {setting} chance does not follow from its classes"
    return None


def _curve(result: RunResult, setting: Setting, counts: Counts) -> Curve | None:
    """Return the curve, whose points must lie within their experiences. Raises ValueError if they do not."""
    if not result.curves:
        return None
    curve, ends = Curve(**dict(result.curves[setting])), [0, *ends_of(result)]
    curve.check_against(counts)
    require(len(ends) == len(counts.total) + 1, "there is a curve, but not a result for each experience")
    for step, i in zip(curve.steps, curve.experiences, strict=True):
        require(ends[i] < step < ends[i + 1], f"step {step} of the curve is not within experience {i}")
    return curve
