"""Writes the finished folder: the chosen network, its results, the page, and an exported file if requested."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from clbench.deployment import exporting
from clbench.deployment.loading import load_network, read_record
from clbench.errors import MachineError
from clbench.extension.candidates import CANDIDATE, Made
from clbench.extension.folder import REPORT, RESULT, OutputFolder
from clbench.extension.image_sets import ImageSet
from clbench.plugins.discovery import Plugin
from clbench.results import manifests
from clbench.results.extension_result import ExtensionResult, Role
from clbench.results.network_record import STEM, NetworkRecord
from clbench.results.record_model import as_json

Thumbnails = Mapping[tuple[str, str], bytes]
"""PNG by (role, image)."""

Page = Callable[[ExtensionResult, Plugin, Thumbnails, NetworkRecord], str]
"""Builds the page, for the chosen strategy; the last argument is the content of network.json."""

_SHOWN, _SIDE = 24, 96


def publish(
    output: OutputFolder,
    made: Made,
    states: Mapping[str, bytes],
    result: ExtensionResult,
    strategy: Plugin,
    sets: Mapping[Role, ImageSet],
    page: Page,
    export: str | None,
    network: Path | None,
    data: Path,
) -> Path:
    """Write the finished folder, with further `states` of strategies as files.

    `network` is the file of its architecture, if it is the user's own. Raises what `deployment.exporting.export` does;
    what was trained is then still in the work folder.
    """
    names = [path.name for path in made.folder.iterdir() if path.name not in (CANDIDATE, manifests.MANIFEST)]
    files = {name: (made.folder / name).read_bytes() for name in names} | dict(states)
    files[RESULT] = as_json(result)
    record = read_record(made.folder / f"{STEM}.json")
    files[REPORT] = page(result, strategy, thumbnails(result, sets), record).encode(errors="replace")
    if export is not None:
        path = output.work / exported_name(export)
        path.unlink(missing_ok=True)
        try:
            exporting.export(load_network(made.folder, network), export, path, data, _test_images(sets))
        except MachineError as error:
            if isinstance(error.__cause__, OSError):  # reported for the output folder, like any other write
                raise error.__cause__ from None
            raise
        files[path.name] = path.read_bytes()
    return output.publish(files)


def exported_name(to: str) -> str:
    """Return the name of the file of `--export`, which differs from that of the network's own tensors."""
    suffix = exporting.format_named(to).suffix
    return f"{'export' if suffix == '.safetensors' else STEM}{suffix}"


def thumbnails(result: ExtensionResult, sets: Mapping[Role, ImageSet]) -> Thumbnails:
    """Return thumbnails of the first images whose prediction changed."""
    found: dict[tuple[str, str], bytes] = {}
    for each in result.kept.changed[:_SHOWN]:
        own = sets[each.role]
        pixels = own.images[own.names.index(each.image)]
        image = PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        image.thumbnail((_SIDE, _SIDE))
        content = io.BytesIO()
        image.save(content, "PNG")
        found[(each.role, each.image)] = content.getvalue()
    return found


def _test_images(sets: Mapping[Role, ImageSet]) -> tuple[npt.NDArray[np.uint8], str]:
    """Return images to try an exported file on, and what they are in words."""
    roles: list[Role] = [role for role in ("new_test", "old_test", "new") if role in sets and len(sets[role])]
    total = sum(len(sets[role]) for role in roles)
    rows = np.linspace(0, total - 1, min(exporting.COMPARED, total)).astype(np.int64)
    chosen, first = [], 0
    for role in roles:
        own = rows[(rows >= first) & (rows < first + len(sets[role]))] - first
        chosen.append(sets[role].images[own])  # of images in a file, only these are read
        first += len(sets[role])
    return np.concatenate(chosen), f"{len(rows)} of the images"
