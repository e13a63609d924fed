"""Lists a folder's images with their classes and whether they are for training or for testing."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clbench.data.holding_out import held_out
from clbench.data.image_files import SUFFIXES
from clbench.data.image_lists import SUFFIXES_OF_LISTS, find_lists, part_of, read_list
from clbench.errors import DataError
from clbench.system.files import found_at
from clbench.system.suggestions import did_you_mean_path

EXPECTED = (
    "Expected: a folder for each class with its images, PATH/CLASS/*.jpg, or two parts of such folders, "
    "PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or val), or a list of `path,label` in PATH."
)
EXPECTED_DOMAINS = (
    "Expected: a folder for each domain, all with the same classes in them, PATH/DOMAIN/CLASS/*.jpg, or two parts of "
    "such folders."
)

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
"""Names of a folder's parts, in any case. Of several that hold test images, the first of this order is taken."""

_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_DEEPEST = 32
"""Deepest nesting of folders; more is a mistake, or meant to do harm."""

Inside = tuple[str, ...]
"""The folders between a root and an image."""


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, by class."""

    root: Path

    classes: tuple[str, ...]
    """In alphabetical order; in numerical order if all are whole numbers."""

    train: tuple[tuple[Path, ...], ...]
    """By class."""

    test: tuple[tuple[Path, ...], ...]
    """By class; () for a class without test images."""

    has_test_part: bool
    """Whether the folder itself divides them into training and test images."""

    groups: Mapping[str, int] = field(default_factory=dict)
    """How many classes are in each folder of folders of classes, in order. The classes are then named GROUP/CLASS."""

    domains: tuple[str, ...] | None = None
    """The groups, if they are domains: all of them have the same classes."""

    in_each: tuple[str, ...] = ()
    """The folders found in every class's folder; these might be meant as the classes, in domains."""

    only_below: bool = False
    """Whether the folders of classes have images only in subfolders; these might be meant as the classes."""

    skipped: Mapping[str, int] = field(default_factory=dict)
    """What was skipped, in words -> how many, for a notice of one line."""


def find_images(path: Path, domains: bool | None = False) -> ImageFolder:
    """Return the images of a folder: PATH/CLASS/*, or PATH/train/CLASS/* and PATH/test/CLASS/*.

    Images in subfolders of a class's folder are of that class too. With `domains`, the folders of the classes are in
    folders DOMAIN; None assumes so if there are several such folders, and all have the same classes.

    If the folder has a list of images and labels (`image_lists`), or `path` is one, it determines images and classes.
    Raises DataError for a folder that has no classes with images, and for a symbolic link that leads out of it.
    """
    if found_at(path) == "file" and path.suffix.lower() in SUFFIXES_OF_LISTS:
        return _from_lists(path.parent, _Found(path.parent), [path])
    found = _Found(path)
    if not found.images:
        what = f"; it contains only {listed(found.skipped)}" if found.skipped else ", nor any other file"
        raise DataError(f"{path} has no images{what}.", EXPECTED)
    if lists := find_lists(path):
        return _from_lists(path, found, lists)
    train_part, test_part = _parts(path, found)
    in_each = found.in_each(train_part)
    if domains is None:
        domains = bool(in_each)
    elif domains and not in_each:
        raise DataError(f"{path} has no domains that all have the same classes.", EXPECTED_DOMAINS)
    folder = _by_folders(path, found, train_part, test_part, 2 if domains else 1)
    return (
        replace(folder, domains=tuple(folder.groups))
        if domains
        else replace(folder, in_each=in_each, only_below=found.only_below(train_part))
    )


def find_groups(path: Path) -> ImageFolder:
    """Return the images of PATH/GROUP/CLASS/*, where groups may have other classes. Raises as `find_images`."""
    return _by_folders(path, _Found(path), (), (), 2)


def _by_folders(path: Path, found: _Found, train_part: Inside, test_part: Inside, levels: int) -> ImageFolder:
    train = found.by_class(train_part, levels)
    test = found.by_class(test_part, levels) if test_part else {}
    classes = checked_names(path, train)
    if levels > 1:
        classes = tuple(_by_group(classes))
    for name in classes:
        if not train[name]:
            raise DataError(f"{path.joinpath(*train_part, name)} has no images.", f"Remove it. {EXPECTED}")
    _check_known(path.joinpath(*train_part), train, path.joinpath(*test_part), test)
    used = sum(map(len, train.values())) + sum(map(len, test.values()))
    if outside := len(found.images) - used:
        found.skipped["images outside the class folders"] = outside
    return ImageFolder(
        path,
        classes,
        tuple(tuple(train[name]) for name in classes),
        tuple(tuple(test.get(name, ())) for name in classes),
        bool(test_part),
        Counter(name.split("/")[0] for name in classes) if levels > 1 else {},
        skipped=dict(found.skipped),
    )


def _from_lists(root: Path, found: _Found, lists: Sequence[Path]) -> ImageFolder:
    by_part: dict[str, Path] = {}
    for file in lists:
        part = part_of(file, (*_TRAIN, *_TEST)) or ""
        if part in by_part:
            raise DataError(
                f"{root} has several lists of images, {by_part[part].name} and {file.name}.",
                "Give one of them as the PATH.",
            )
        by_part[part] = file
    train_file = next((by_part[part] for part in ("", *_TRAIN) if part in by_part), lists[0])
    test_file = next((by_part[part] for part in _TEST if part in by_part and by_part[part] != train_file), None)
    images = {str(image.relative_to(root)): image for _, image in found.images}
    train_lines = read_list(train_file, images)
    test_lines = read_list(test_file, images) if test_file else []
    train, test = _by_label(train_lines), _by_label(test_lines)
    classes = checked_names(train_file, train)
    if not classes:
        raise DataError(f"{train_file} lists no images.", "Expected: path,label in each line.")
    if test_file:
        _check_known(train_file, train, test_file, test)
        if both := {image for image, _ in train_lines}.intersection(image for image, _ in test_lines):
            raise DataError(
                f"{min(both)} is in two lists, {train_file.name} and {test_file.name}.",
                "An image is for training or for testing. Remove it from one of them.",
            )
    used = {image for image, _ in (*train_lines, *test_lines)}
    skipped = Counter(found.skipped)
    for file in lists:
        skipped[file.suffix.lower()] -= 1
    skipped["lines that repeat an image"] = len(train_lines) + len(test_lines) - len(used)
    skipped["images that are in no list"] = len(found.images) - len(used.intersection(images.values()))
    return ImageFolder(
        root,
        classes,
        tuple(tuple(train[name]) for name in classes),
        tuple(tuple(test.get(name, ())) for name in classes),
        test_file is not None,
        skipped=dict(+skipped),
    )


def _by_label(listed_images: Iterable[tuple[Path, str]]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for image, label in dict.fromkeys(listed_images):  # once each
        classes.setdefault(label, []).append(image)
    return classes


def _check_known(
    train: Path, trained: Mapping[str, Sequence[Path]], test: Path, tested: Mapping[str, Sequence[Path]]
) -> None:
    if unknown := sorted(name for name in tested if tested[name] and name not in trained):
        shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        raise DataError(
            f"{test} has classes that {train} does not have: {shown}.",
            "Only classes with training images can be tested. Use the same names in both.",
        )


def find_unlabelled(path: Path) -> tuple[Path, ...]:
    """Return all images at and below a folder, or one file. Raises DataError if there are none."""
    if found_at(path) == "file":
        return (path,)
    found = _Found(path)
    if not found.images:
        raise DataError(f"there are no images in {path}.", f"Images are {', '.join(sorted(SUFFIXES))}.")
    return tuple(image for _, image in found.images)


def hold_out(folder: ImageFolder, share: float, seed: int) -> ImageFolder:
    """Return the folder with this share of each class's images for testing, at least one; itself if it has a test part.

    See `held_out` for which ones. A class with one image keeps it for training.
    """
    if folder.has_test_part:
        return folder
    train, test = [], []
    for name, images in zip(folder.classes, folder.train, strict=True):
        chosen = held_out(name, len(images), share, seed)
        train.append(tuple(image for image, out in zip(images, chosen, strict=True) if not out))
        test.append(tuple(image for image, out in zip(images, chosen, strict=True) if out))
    return replace(folder, train=tuple(train), test=tuple(test))


def ordered(names: Iterable[str]) -> list[str]:
    """Return names of classes in alphabetical order; in numerical order if all are whole numbers."""
    given = sorted(names)
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in given)
    return sorted(given, key=int) if numbers else given


def _by_group(names: Iterable[str]) -> list[str]:
    """Return names GROUP/CLASS ordered by group, and within each group by class."""
    groups: dict[str, list[str]] = {}
    for group, _, name in (each.partition("/") for each in names):
        groups.setdefault(group, []).append(name)
    return [f"{group}/{name}" for group in ordered(groups) for name in ordered(groups[group])]


def checked_names(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes, ordered. Raises DataError for one that cannot be shown."""
    for name in (given := ordered(names)):
        if not name.strip() or not name.isprintable():
            raise DataError(f"{path} has a class with an invalid name: {name!r}.", "Rename it.")
    return tuple(given)


def listed(skipped: Mapping[str, int]) -> str:
    """Return what was skipped in words: `hidden files (2), .txt (1)`."""
    return ", ".join(f"{what} ({count:,})" for what, count in skipped.items())


class _Found:
    """Everything in and below a folder."""

    def __init__(self, root: Path) -> None:
        """Raises DataError if the folder cannot be read, and for a link that leads out of it."""
        self.root = root
        self.images: list[tuple[Inside, Path]] = []
        self.folders: set[Inside] = set()
        self.skipped: Counter[str] = Counter()
        self._followed: set[tuple[int, int]] = set()
        if (kind := found_at(root)) != "folder":
            wrong = " is not a folder." if kind else f" does not exist{did_you_mean_path(root) or '.'}"
            raise DataError(f"{root}{wrong}", EXPECTED)
        self._real = root.resolve()
        try:
            self._walk(root, (), (root.stat().st_ino,))
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be read: {error.strerror}.") from error

    def by_class(self, part: Inside, levels: int = 1) -> dict[str, list[Path]]:
        """Return the images below this part by the folder that they are in; those in none are left out.

        With two `levels`, these are folders within folders, named GROUP/CLASS.
        """
        depth, below = len(part), len(part) + levels
        classes: dict[str, list[Path]] = {
            "/".join(inside[depth:]): [] for inside in self.folders if len(inside) == below and inside[:depth] == part
        }
        for inside, image in self.images:
            if inside[:depth] == part and len(inside) >= below:
                classes["/".join(inside[depth:below])].append(image)
        return classes

    def in_each(self, part: Inside) -> tuple[str, ...]:
        """Return the folders of images that several folders in this part all have; () if they do not agree."""
        depth = len(part)
        classes: dict[str, set[str]] = {}
        for inside, _ in self.images:
            if inside[:depth] == part and len(inside) > depth:
                classes.setdefault(inside[depth], set()).add("/".join(inside[depth + 1 : depth + 2]))
        first, *others = classes.values() or [set()]
        agree = len(first) > 1 and "" not in first and bool(others) and all(each == first for each in others)
        return tuple(sorted(first)) if agree else ()

    def only_below(self, part: Inside) -> bool:
        """Return whether the folders in this part have images only in subfolders."""
        depth = len(part)
        return all(len(inside) > depth + 1 for inside, _ in self.images if inside[:depth] == part)

    def _walk(self, folder: Path, inside: Inside, above: tuple[int, ...]) -> None:
        """Collect what is in a folder, ordered by name; `above` are the inodes of it and of the folders around it."""
        if len(inside) > _DEEPEST:
            raise DataError(f"{folder} is nested too deeply.", EXPECTED)
        with os.scandir(folder) as entries:
            given = sorted(entries, key=lambda entry: entry.name)
        for entry in given:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name.lower() in _JUNK:
                self.skipped["hidden files"] += 1
            elif entry.is_symlink() and not self._leads_on(path, entry, above):
                self.skipped["links that lead nowhere or back"] += 1
            elif entry.is_dir():
                below = (*inside, entry.name)
                self.folders.add(below)
                self._walk(path, below, (*above, entry.stat().st_ino))
            elif path.suffix.lower() in SUFFIXES and entry.is_file():
                self.images.append((inside, path))
            else:
                self.skipped[path.suffix.lower() or "other files"] += 1

    def _leads_on(self, link: Path, entry: os.DirEntry[str], above: tuple[int, ...]) -> bool:
        """Return whether to follow a link: only if it leads to something that it is not in itself.

        Each is followed once, since links to folders with links could be followed without end.
        """
        try:
            target = link.resolve()
        except (OSError, RuntimeError):  # a link to itself
            return False
        if not target.is_relative_to(self._real):
            raise DataError(
                f"{link} is a symbolic link that leads out of the folder, to {target}.",
                "Copy what it leads to into the folder, or remove the link.",
            )
        own = entry.stat(follow_symlinks=False)
        if not target.exists() or target.stat().st_ino in above or (own.st_dev, own.st_ino) in self._followed:
            return False
        self._followed.add((own.st_dev, own.st_ino))
        return True


def _parts(path: Path, found: _Found) -> tuple[Inside, Inside]:
    """Return where the classes' folders are, for training and for testing; the latter is () without a test part."""
    holding = dict.fromkeys(inside[0] for inside, _ in found.images if inside)
    if not holding:
        raise DataError(f"{path} has {len(found.images):,} images, but no folders of classes.", EXPECTED)
    divided = {inside[0] for inside, _ in found.images if len(inside) > 1}
    train = _named(path, divided, _TRAIN)
    test = _named(path, divided, _TEST)
    if train and test:
        return (train,), (test,)
    if train and len(holding) == 1:
        return (train,), ()
    if test and len(holding) == 1:
        raise DataError(f"{path} has images for testing ({test}), and none for training.", EXPECTED)
    return (), ()


def _named(path: Path, folders: Iterable[str], names: tuple[str, ...]) -> str | None:
    """Return the folder that has the first of these names, in any case."""
    for name in names:
        same = sorted(folder for folder in folders if folder.lower() == name)
        if len(same) > 1:
            raise DataError(f"{path} has {' and '.join(same)}; it is not clear which is meant.", "Rename one.")
        if same:
            return same[0]
    return None
