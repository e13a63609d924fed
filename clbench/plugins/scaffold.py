"""New plug-in files: a commented skeleton that runs, a copy of a built-in, a scenario around a dataset of one's own."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from clbench.errors import MachineError, UsageError
from clbench.plugins.discovery import FOLDERS, NAME, Kind, Plugin, select
from clbench.system.files import replace_file

_STRATEGY = '''"""{title}: say in a line what it does. (This skeleton is Learning without Forgetting.)

    L = CE(softmax(o_new), y) + α·KD_T(o_old, o_old before)        KD_T = -Σ_c y'_c log ŷ'_c

Source: paper, year, link and equation. (Li & Hoiem 2016, arXiv 1606.09282, equations 1 to 3)
Variant: in what it differs from the paper and from others of the name. (One softmax over all old classes.)
"""

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

import clbench
from clbench import losses


@clbench.config
class Config:
    # Every hyper-parameter: its range, its default, and below it what it is, its unit and the paper's value.
    alpha: Annotated[float, Ge(0)] = 1.0
    """α, weight of the distillation; dimensionless. The paper uses 1."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T, temperature of the distillation; dimensionless. The paper uses 2."""


class {cls}(clbench.Strategy[Config]):
    # The hooks are called in this order in every experience; leave out what you do not need.
    # clbench/base/strategy.py has them all. What you set on self is carried on to the next experience, and counted.

    def first_loss(self) -> clbench.Classes:
        """The first experience is learned by plain cross-entropy over the classes seen; of the other hooks only
        after_experience is called there. Leave this out where yours are to act in it."""
        return "seen"

    def teacher_output(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        """What the network, as the last experience left it, answers for the new images: (n, old classes)."""
        return losses.soften(model(x)[:, : experience.old_classes], self.config.temperature)

    def loss(self, batch: clbench.Batch) -> Tensor:
        """The loss of a batch: batch.x, batch.y, batch.logits, and batch.teacher_outputs, from `teacher_output`."""
        new = batch.cross_entropy("current")
        old = batch.logits[:, : batch.experience.old_classes]
        return new + self.config.alpha * losses.distillation(old, batch.teacher_outputs, self.config.temperature)

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        """Look once more at experience.samples; keep on self what the next experience needs."""
'''

_SCENARIO = '''"""{title}: say what the images are and where they are from."""

import clbench


class {cls}(clbench.Scenario):
    dataset = "{dataset}"
    split = "{split}"  # times x classes; also a number of equal experiences, or a list: 4,3,3
{setting}    recipes = {{
        # Complete training protocols by name, the default first; see clbench/base/recipe.py.
        "quick": clbench.Recipe(network="{quick}", optimizer="adam", lr=1e-3, batch_size=64, epochs=5),
        "standard": clbench.Recipe(network="{standard}", optimizer="sgd", lr=0.05, momentum=0.9, epochs=50),
    }}
'''

_CNN_NEEDS = 8
"""Pixels that three halvings leave something of."""

_LARGEST_FOR_RESNET18 = 48
"""Beyond it a residual network is used whose stem halves the image twice; it computes a sixteenth."""


_NETWORK = '''"""{title}: say in a line what it is.

Source: paper, year, link.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

import clbench


@clbench.config
class Config:
    # Every hyper-parameter: its range, its default, and below it what it is. To set it: --set network.width=64
    width: Annotated[int, Ge(1)] = 32
    """Channels of the first convolution."""


# Any nn.Module will do. What is called like the file is the network; @clbench.network(size=224, …) says more of it.
class {cls}(nn.Module):
    # Of these arguments it is given those that it has: shape (height, width, channels), channels, config.
    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        # What can be frozen from the input on are the children, in this order.
        self.stem = nn.Sequential(nn.Conv2d(channels, config.width, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(config.width, 2 * config.width, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, features). A last linear layer, if there is one, is taken for the head of
        a classifier and replaced by one that grows with the classes."""
        return self.deep(self.stem(x)).mean(dim=(2, 3))
'''


def new_strategy(name: str, original: str | None = None) -> Path:
    """Write strategies/NAME.py, a skeleton or a copy of the strategy `original`, and return its path.

    Raises UsageError for a name that no file can have, that is taken, or for an original that does not exist.
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
    """Return the file of a scenario for a dataset with images of `shape`, with networks that suit their size.

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
            f"'{name}' cannot be the name of a {kind}", "Letters, digits and _, beginning with a letter: my_idea"
        )
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UsageError(f"'{name}' cannot be the name of a {kind}", "It becomes a class's name too: my_idea")
    path = Path(FOLDERS[kind]) / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} is there already", "Choose another name, or edit the file.")
    try:
        taken = select(kind, name)
    except UsageError:
        return path
    raise UsageError(f"there is a {kind} '{name}' already ({taken.source}: {taken.path})", "Choose another name.")


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, text.encode())  # all of it, or nothing that would be found there the next time
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}") from error
    return path


def _renamed(text: str, plugin: Plugin, cls: str) -> str:
    text = re.sub(rf"\b{plugin.class_name}\b", cls, text)
    text = re.sub(r"^    dialects_of = .*\n", "", text, flags=re.MULTILINE)  # a copy is a strategy of its own
    return re.sub(rf'(?<=")({plugin.name}): ', f"{cls.lower()}: ", text)


def _class_name(name: str) -> str:
    joined = "".join(part[:1].upper() + part[1:] for part in re.split("[_-]", name))
    return f"Own{joined}" if joined[:1].isdigit() else joined


def _title(name: str) -> str:
    return " ".join(part.capitalize() for part in name.split("_"))
