"""Create the head's rows for each experience, as the setting and the recipe require."""

from __future__ import annotations

from clbench.base.experience import Experience
from clbench.base.recipe import Recipe
from clbench.networks.network import Network
from clbench.system.seeds import derive


def prepare_head(model: Network, recipe: Recipe, where: Experience, seed: int) -> None:
    """Set how the head's rows are initialized; create all of them now, from `seed`, if the recipe's head is fixed."""
    model.head.initialization = recipe.head_initialization
    if recipe.head == "fixed":
        sizes = where.classes_per_experience
        outputs = sizes[0] if where.setting == "domain_incremental" else sum(sizes)
        device = model.device
        model.head.fix(outputs, derive(seed, "head"))
        if recipe.head_parameters == "per_experience":
            model.head.divide(sizes)
        model.head.to(device)


def grow_head(model: Network, where: Experience, seed: int) -> None:
    """Add rows for the experience's classes, initialized from `seed`; domain-incremental experiences share one set."""
    index, sizes = where.index, where.classes_per_experience
    if index == 0 or where.setting != "domain_incremental":
        device = model.device
        model.head.grow(sizes[index], derive(seed, "head", index))
        model.head.to(device)
    elif index == 1:
        model.head.share()
