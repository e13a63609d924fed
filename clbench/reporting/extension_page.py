"""Builds the HTML page that `clbench extend` and `clbench train` write about a network: what it learned and lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clbench.reporting import extension_findings as findings
from clbench.reporting.document import fill
from clbench.reporting.extension_figures import confusion_matrix, interval, per_class
from clbench.reporting.figure import Figure
from clbench.reporting.provenance import described
from clbench.reporting.rendering import inline
from clbench.reporting.sections import Cell
from clbench.results.environment import Environment
from clbench.results.extension_result import Candidate, ChangedAnswer, ExtensionResult, Role
from clbench.results.record_model import to_json
from clbench.system.output import counted, duration

_PURPOSES: dict[Role, str] = {
    "new": "training images of new classes",
    "new_test": "test images of new classes",
    "old_test": "test images of old classes",
    "old_images": "images of old classes to train on",
    "unlabelled": "unlabelled images",
}
_STEPS = {
    "given": "given with its weights",
    "run": "clbench run",
    "train": "clbench train",
    "extend": "clbench extend",
}


@dataclass(frozen=True)
class Facts:
    """Facts on the page that are not in result.json; no number depends on them."""

    environment: Environment
    """The machine and software it was made with, and when it was finished."""

    weights_sha256: str = ""
    """Hash of all tensors of the resulting network."""

    step_id: str = ""
    """Identifies this step in its network.json, and on the pages of networks made from it."""

    strategy_doc: str = ""
    """The docstring of the chosen strategy's file."""

    strategy_formula: str = ""
    """The loss of its preset, as written in the file."""


def extension_page(
    result: ExtensionResult, thumbnails: Mapping[tuple[str, str], bytes], command: str, facts: Facts
) -> str:
    """Return the page, one self-contained HTML file.

    `thumbnails` has PNG or JPEG files of images whose prediction changed, by role and image; an image without one is
    described in words. `command` reproduces the result.
    """
    kept = result.kept
    return fill(
        "extension.html.j2",
        result=result,
        kept=kept,
        comparing=bool(result.old_classes),
        command=command,
        facts=facts,
        short_facts=_short_facts(result, facts),
        made_by=findings.made_by(result),
        outcome=findings.outcome(result),
        tiles=findings.tiles(result),
        old_unknown=bool(result.old_classes) and not kept.old_classes,
        alerts=[*([unjudged] if (unjudged := findings.unjudged(result)) else []), *_broken(result), *result.notes],
        changes=findings.changes(result),
        lost_most=findings.lost_most(result),
        per_class=_shown(per_class(result)),
        agreement=(findings.AGREEMENT_HEADINGS, findings.agreement(kept) if result.old_classes else []),
        strategies=_strategies(result),
        # Of the rules, only those that compare test accuracies name them; what follows ";" is the equally good.
        chosen_by_accuracy="accuracy" in result.rule.partition(";")[0],
        summary=(findings.SUMMARY_HEADINGS, findings.confusion_summary(result)),
        confusions=findings.confusion_lists(result),
        matrix=_shown(confusion_matrix(result)),
        changed=[_changed(each, thumbnails) for each in kept.changed[: findings.MOST_CHANGED]],
        further_changed=max(0, len(kept.changed) - findings.MOST_CHANGED),
        lineage=_lineage(result, facts),
        took=_took(kept),
        settings=_settings(result),
        images=_images(result),
        hashes=_hashes(result, facts),
        surroundings=described(facts.environment, result.device),
    )


def _short_facts(result: ExtensionResult, facts: Facts) -> list[str]:
    known = facts.environment
    versions = [f"{name} {version}" for name in ("clbench", "torch") if (version := (known.packages or {}).get(name))]
    return [
        *([f"made {known.finished[:10]}"] if known.finished else []),
        f"seed {result.seeds.run}",
        *versions,
        f"device: {known.gpu or known.processor or result.device}",
    ]


def _broken(result: ExtensionResult) -> list[str]:
    return [
        f"{counted(each.broken, 'file')} given as {_purpose(result, each.role)} could not be read, and "
        f"{'was' if each.broken == 1 else 'were'} left out."
        for each in result.images
        if each.broken
    ]


# -- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A figure, drawn."""

    figure: Figure
    svgs: tuple[str, ...]


def _shown(figure: Figure) -> Shown | None:
    """Draw a figure; None if it has nothing to show."""
    if not figure.panels:
        return None
    described = [
        (f"{figure.title}. {title}", f"{figure.note} The numbers are below.".strip()) for title, _ in figure.panels
    ]
    return Shown(figure, inline([panel for _, panel in figure.panels], figure.key, described))


# -- strategies -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StrategyTable:
    """Every strategy that was tried, with the columns that have any values."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[Cell, ...]], ...]
    """The strategy, whether it was kept, and a cell for each heading but the first."""


def _strategies(result: ExtensionResult) -> StrategyTable | None:
    """Return the table; None for a first network by a single strategy, with nothing to compare."""
    if not result.old_classes and len(result.candidates) == 1 and not result.left_out:
        return None
    of_each = [_strategy_cells(candidate, bool(result.old_classes)) for candidate in result.candidates]
    known = [heading for heading in of_each[0] if any(cells[heading].value is not None for cells in of_each)]
    rows = (
        (candidate.strategy.selector, candidate is result.kept, tuple(cells[heading] for heading in known))
        for candidate, cells in zip(result.candidates, of_each, strict=True)
    )
    return StrategyTable(("strategy", *known), tuple(rows))


def _strategy_cells(candidate: Candidate, comparing: bool) -> dict[str, Cell]:
    found = findings.means(candidate)
    accuracies = {"old before, %": found.before, "old after, %": found.after}
    cells = {
        heading: Cell(f"{100 * value.value:.1f} ({interval(value)})", value.value) if value else Cell("–")
        for heading, value in (accuracies | {"new, %" if comparing else "accuracy, %": found.new}).items()
    }
    both = (found.after.value + found.new.value) / 2 if found.after and found.new else None
    cells["mean of old and new, %"] = _share(both)
    for images, agreement in (("unlabelled", candidate.on_unlabelled), ("new images", candidate.on_new)):
        share = None
        if agreement and agreement.images:
            same = agreement.same if images == "unlabelled" else agreement.among_old
            share = same / agreement.images
        cells[f"agreement, {images}, %"] = _share(share)
    cells["seconds"] = Cell(f"{candidate.seconds:,.1f}", candidate.seconds)
    cells["steps"] = Cell(f"{candidate.gradient_steps:,}", candidate.gradient_steps)
    return cells


def _share(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{100 * value:.1f}", value)


# -- images whose prediction changed ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShownImage:
    """An image whose prediction changed, with its picture as a `data:` URL if there is one."""

    changed: ChangedAnswer
    name: str
    text: str
    source: str


def _changed(changed: ChangedAnswer, thumbnails: Mapping[tuple[str, str], bytes]) -> ShownImage:
    content = thumbnails.get((changed.role, changed.image), b"")
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg" if content.startswith(b"\xff\xd8") else ""
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if kind else ""
    text = findings.alternative_text(changed)
    return ShownImage(changed, findings.file_name(changed), text, source)


# -- how it was made --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A command that made the network, or added classes to it."""

    what: str
    strategy: str
    images: str
    seed: str
    classes: tuple[str, ...]
    id: str


def _lineage(result: ExtensionResult, facts: Facts) -> list[Step]:
    before = [
        Step(
            _STEPS[each.command],
            each.strategy or "–",
            "not known" if each.images is None else f"{each.images:,}",
            "–" if each.seed is None else str(each.seed),
            each.classes,
            each.id,
        )
        for each in result.lineage
    ]
    this = Step(
        f"{_STEPS[result.command]} (this page)",
        result.chosen,
        f"{result.kept.train_images:,}",
        str(result.seeds.run),
        result.new_classes,
        facts.step_id or result.id,
    )
    return [*before, this]


def _settings(result: ExtensionResult) -> list[tuple[str, tuple[str, str], list[tuple[str, str]]]]:
    """Return the tables of settings: each a title, headings and rows."""
    recipe = to_json(result.recipe.config)
    image, taken = result.input.image, result.input
    network = {
        "architecture": result.network.label,
        "from": result.network.package or ("a file of your own" if result.network.sha256 else "clbench"),
        "images": f"{image.width} × {image.height}, {counted(image.channels, 'channel')}",
        "input of the network": f"{taken.width} × {taken.height}, {counted(taken.channels, 'channel')}",
        "mean subtracted": ", ".join(f"{value:g}" for value in taken.mean),
        "divided by": ", ".join(f"{value:g}" if value else "1 (for a standard deviation of 0)" for value in taken.std),
        "threads": str(result.threads),
    }
    return [
        (f"Hyper-parameters of {result.chosen}", ("name", "value"), _values(result.kept.strategy.config)),
        (f"Recipe {result.recipe.name}", ("name", "value"), _values(recipe)),
        ("Network and its input", ("what", "which"), list(network.items())),
    ]


def _values(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, json.dumps(value, ensure_ascii=False)) for name, value in config.items()]


def _images(result: ExtensionResult) -> list[tuple[str, ...]]:
    return [
        (_purpose(result, each.role), f"{each.images:,}", f"{each.broken:,}", each.sha256) for each in result.images
    ]


def _purpose(result: ExtensionResult, role: Role) -> str:
    """Return what images are for; of a first network all classes are new, which goes without saying."""
    return _PURPOSES[role] if result.old_classes else _PURPOSES[role].removesuffix(" of new classes")


def _hashes(result: ExtensionResult, facts: Facts) -> list[tuple[str, str]]:
    found = {
        "this result": result.id,
        "tensors of this network": facts.weights_sha256,
        "tensors of the network that was extended": result.parent_sha256,
        f"source of the strategy {result.kept.strategy.name}": result.kept.strategy.sha256,
        "source of the network": result.network.sha256,
    }
    return [(name, value) for name, value in found.items() if value]


def _took(candidate: Candidate) -> str:
    """Return the length of a candidate's training, in words."""
    if not candidate.gradient_steps:
        return f"no gradient steps, in {duration(candidate.seconds)}"
    return (
        f"{counted(candidate.gradient_steps, 'gradient step')} over "
        f"{counted(candidate.samples_seen, 'image')}, repetitions counted, in {duration(candidate.seconds)}"
    )
