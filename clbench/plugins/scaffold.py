"""Writes new plug-in files: a commented skeleton that runs, a copy of a built-in, or a scenario for a dataset."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from clbench.errors import MachineError, UsageError
from clbench.plugins.discovery import FOLDERS, NAME, Kind, Plugin, select
from clbench.system.files import replace_file

_STRATEGY = '''"""{title}: describe in one line what it does. (This skeleton is Learning without Forgetting.)

    L = CE(softmax(o_new), y) + α·KD_T(o_old, o_old before)        KD_T = -Σ_c y'_c log ŷ'_c

Source: paper, year, link and equation. (Li & Hoiem 2016, arXiv 1606.09282, equations 1 to 3)
Variant: how it differs from the paper and from other methods of this name. (One softmax over all old classes.)
"""

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

import clbench
from clbench import losses


@clbench.config
class Config:
    # Each hyper-parameter has a range, a default and, below it, its meaning, its unit and the paper's value.
    alpha: Annotated[float, Ge(0)] = 1.0
    """α, weight of the distillation; dimensionless. The paper uses 1."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T, temperature of the distillation; dimensionless. The paper uses 2."""


class {cls}(clbench.Strategy[Config]):
    # The hooks are called in this order in every experience; leave out those that you do not need. All of them are in
    # clbench/base/strategy.py. What you set on self is kept for the next experience; the audit counts it.

    def first_loss(self) -> clbench.Classes:
        """Learn the first experience with plain cross-entropy over the classes seen; of the other hooks, only
        after_experience is called in it. Leave this method out if your hooks are to act there too."""
        return "seen"

    def teacher_output(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        """Return what the network, as the previous experience left it, predicts for new images: (n, old classes)."""
        return losses.soften(model(x)[:, : experience.old_classes], self.config.temperature)

    def loss(self, batch: clbench.Batch) -> Tensor:
        """Return the loss of a batch, from its x, y, logits and teacher_outputs (what `teacher_output` returned)."""
        new = batch.cross_entropy("current")
        old = batch.logits[:, : batch.experience.old_classes]
        return new + self.config.alpha * losses.distillation(old, batch.teacher_outputs, self.config.temperature)

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        """Go through experience.samples once more; store on self what the next experience needs."""
'''

_SCENARIO = '''"""{title}: describe what the images are and where they are from."""

import clbench


class {cls}(clbench.Scenario):
    dataset = "{dataset}"
    split = "{split}"  # experiences x classes of each; or a number of equal experiences, or a list: 4,3,3
{setting}    recipes = {{
        # Complete training protocols by name, the default first; see clbench/base/recipe.py.
        "quick": clbench.Recipe(network="{quick}", optimizer="adam", lr=1e-3, batch_size=64, epochs=5),
        "standard": clbench.Recipe(network="{standard}", optimizer="sgd", lr=0.05, momentum=0.9, epochs=50),
    }}
'''

_CNN_NEEDS = 8
"""Smallest height and width, in pixels, for a network that halves them three times."""

_LARGEST_FOR_RESNET18 = 48
"""Pixels above which the residual network has a stem that halves the image twice, to compute a sixteenth."""


_NETWORK = '''"""{title}: describe in one line what it is.

Source: paper, year, link.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

import clbench


@clbench.config
class Config:
    # Each hyper-parameter has a range, a default and, below it, its meaning. To set it: --set network.width=64
    width: Annotated[int, Ge(1)] = 32
    """Channels of the first convolution."""


# Any nn.Module will do. The class or function named after the file is the network; decorate it with
# @clbench.network(size=224, …) to declare more about it.
class {cls}(nn.Module):
    # Take any of these arguments: shape (height, width, channels), channels, config.
    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        # The children are the blocks that can be frozen from the input on, in this order.
        self.stem = nn.Sequential(nn.Conv2d(channels, config.width, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(config.width, 2 * config.width, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, features). If the last layer is linear, it counts as a classifier's head
        and is replaced by one that grows with the classes."""
        return self.deep(self.stem(x)).mean(dim=(2, 3))
'''


def new_strategy(name: str, original: str | None = None) -> Path:
    """Write strategies/NAME.py, a skeleton or a copy of the strategy `original`, and return its path.

    Raises UsageError if the name is invalid or taken, or if the original does not exist.
    """
    path = _free("strategy", name)
    if original is None:
        return _written(path, _STRATEGY.format(title=_title(name), cls=_class_name(name)))
    plugin = select("strategy", original)
    text = plugin.path.read_text(encoding="utf-8")
    return _written(path, _renamed(text, plugin, _class_name(name)))


def new_network(name: str, original: str | None = None) -> Path:
    """Write networks/NAME.py, a skeleton or a copy of the network `original`. Returns and raises as `new_strategy`."""
    path = _free("network", name)
    if original is None:
        return _written(path, _NETWORK.format(title=_title(name), cls=_class_name(name)))
    plugin = select("network", original)
    text = plugin.path.read_text(encoding="utf-8")
    return _written(
        path, re.sub(rf"\bdef {plugin.class_name}\b", f"def {name}", _renamed(text, plugin, _class_name(name)))
    )


def new_scenario(name: str, dataset: str, split: str, shape: tuple[int, int, int], domains: bool = False) -> Path:
    """Write scenarios/NAME.py for a dataset, and return its path. Raises as `new_strategy`."""
    return _written(_free("scenario", name), scenario_text(name, dataset, split, shape, domains))


def scenario_text(name: str, dataset: str, split: str, shape: tuple[int, int, int], domains: bool = False) -> str:
    """Return the text of a scenario file for a dataset with images of `shape`, with networks that suit their size.

    With `domains` it is domain-incremental.
    """
    height, width, _ = shape
    quick, standard = "cnn", "resnet18"
    if min(height, width) < _CNN_NEEDS:
        quick = standard = "mlp"
    elif max(height, width) > _LARGEST_FOR_RESNET18:
        standard = "torchvision:resnet18"
    return _SCENARIO.format(
        title=_title(name),
        cls=_class_name(name),
        dataset=dataset,
        split=split,
        setting='    setting = "domain"\n' if domains else "",
        quick=quick,
        standard=standard,
    )


def check_free(kind: Kind, name: str) -> None:
    """Raise UsageError if a new plug-in of this kind cannot have this name."""
    _free(kind, name)


def _free(kind: Kind, name: str) -> Path:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("test_"):
        raise UsageError(
            f"'{name}' cannot be the name of a {kind}", "Use letters, digits and _, beginning with a letter: my_idea"
        )
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UsageError(f"'{name}' cannot be the name of a {kind}", "It is used as the name of a class too: my_idea")
    path = Path(FOLDERS[kind]) / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} already exists", "Choose another name, or edit the file.")
    try:
        taken = select(kind, name)
    except UsageError:
        return path
    raise UsageError(f"a {kind} '{name}' already exists ({taken.source}: {taken.path})", "Choose another name.")


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, text.encode())  # all of it or nothing: half a file would be found there the next time
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}") from error
    return path


def _renamed(text: str, plugin: Plugin, cls: str) -> str:
    text = re.sub(rf"\b{plugin.class_name}\b", cls, text)
    text = re.sub(r"^    dialects_of = .*\n", "", text, flags=re.MULTILINE)  # a copy is a separate strategy
    return re.sub(rf'(?<=")({plugin.name}): ', f"{cls.lower()}: ", text)


def _class_name(name: str) -> str:
    joined = "".join(part[:1].upper() + part[1:] for part in re.split("[_-]", name))
    return f"Own{joined}" if joined[:1].isdigit() else joined


def _title(name: str) -> str:
    return " ".join(part.capitalize() for part in name.split("_"))
