"""Folders of images: what is found in them, and what is reported if nothing is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import PIL.Image
import pytest

from clbench.data.image_folders import ImageFolder, find_groups, find_images, find_unlabelled, hold_out
from clbench.errors import DataError


def touch(root: Path, names: Iterable[str]) -> Path:
    """Make these files; what they hold is not looked at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(folder: ImageFolder, part: tuple[tuple[Path, ...], ...]) -> dict[str, list[str]]:
    """The images of a part by class, relative to the folder."""
    own = ([str(image.relative_to(folder.root)) for image in images] for images in part)
    return dict(zip(folder.classes, own, strict=True))


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_images(path)
    assert str(path) in caught.value.message
    return str(caught.value).replace(str(path), "PATH")


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_each_class_is_found(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, ["zebra/2.JPG", "zebra/1.png", "ape/a.webp"]))
    assert found.classes == ("ape", "zebra")
    assert names(found, found.train) == {"ape": ["ape/a.webp"], "zebra": ["zebra/1.png", "zebra/2.JPG"]}
    assert found.test == ((), ()) and not found.has_test_part and found.skipped == {}


def test_classes_that_are_whole_numbers_are_in_numerical_order(tmp_path: Path) -> None:
    assert find_images(touch(tmp_path, ["10/a.png", "9/a.png", "0/a.png"])).classes == ("0", "9", "10")


def test_whole_numbers_may_have_a_sign(tmp_path: Path) -> None:
    assert find_images(touch(tmp_path, ["10/a.png", "2/a.png", "-1/a.png"])).classes == ("-1", "2", "10")


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Testing", "val", "VALID", "validation"])
def test_parts_for_training_and_testing_are_found_in_any_case(train: str, test: str, tmp_path: Path) -> None:
    given = [f"{train}/ape/1.png", f"{train}/zebra/2.png", f"{test}/zebra/3.png", f"{test}/ape/4.png"]
    found = find_images(touch(tmp_path, given))
    assert found.has_test_part and found.classes == ("ape", "zebra")
    assert names(found, found.train) == {"ape": given[:1], "zebra": given[1:2]}
    assert names(found, found.test) == {"ape": given[3:], "zebra": given[2:3]}


def test_of_test_and_val_test_is_taken_and_the_other_counted(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, ["train/a/1.png", "val/a/2.png", "val/a/3.png", "test/a/4.png"]))
    assert names(found, found.test) == {"a": ["test/a/4.png"]}
    assert found.skipped == {"images outside the class folders": 2}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, ["bus/1.png", "car/1.png", "train/1.png", "test/1.png"]))
    assert found.classes == ("bus", "car", "test", "train")


def test_a_class_without_test_images_is_kept_and_one_without_training_images_refused(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, ["train/ape/1.png", "train/zebra/1.png", "test/ape/2.png"]))
    assert names(found, found.test) == {"ape": ["test/ape/2.png"], "zebra": []}
    touch(tmp_path, ["test/gnu/1.png"])
    assert "PATH/test has classes that PATH/train does not have: gnu." in refused(tmp_path)


def test_what_lies_deeper_is_of_the_class_and_junk_is_counted(tmp_path: Path) -> None:
    given = ["ape/2019/may/1.png", "ape/2.png", "zebra/3.jpeg"]
    junk = ["ape/.DS_Store", "zebra/Thumbs.db", "zebra/notes.txt", "readme.txt", "zebra/._3.jpeg", "__MACOSX/ape/1.png"]
    found = find_images(touch(tmp_path, given + junk))
    assert names(found, found.train) == {"ape": ["ape/2.png", "ape/2019/may/1.png"], "zebra": ["zebra/3.jpeg"]}
    assert found.skipped == {"hidden files": 4, ".txt": 2}


# -- lists ------------------------------------------------------------------------------------------------------------

LISTS = {
    "commas": ("labels.csv", "a.png,ape\nmore/b.png,zebra\n"),
    "a heading": ("labels.csv", "Filename,Class\na.png,ape\nmore/b.png,zebra\n"),
    "columns by their heading": ("labels.csv", "id,label,image\n1,ape,a.png\n2,zebra,more/b.png\n"),
    "a name that is no path": ("labels.csv", "name,image,label\nKoko,a.png,ape\nZeb,more/b.png,zebra\n"),
    "an image that is no path": ("labels.csv", "image,name,label\n1,a.png,ape\n2,more/b.png,zebra\n"),
    "semicolons": ("labels.csv", "a.png;ape\nmore/b.png;zebra\n"),
    "tabs": ("labels.tsv", "a.png\tape\t1\nmore/b.png\tzebra\t2\n"),
    "spaces": ("labels.txt", "a.png ape\n\nmore/b.png zebra\n"),
    "a byte order mark": ("labels.csv", "\ufeffa.png,ape\r\nmore/b.png,zebra\r\n"),
    "quotes": ("labels.csv", '"a.png","ape"\n"./more/../more/b.png","zebra"\n'),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_beside_the_images_says_what_they_are(kind: str, tmp_path: Path) -> None:
    touch(tmp_path, ["a.png", "more/b.png", "more/c.png", "notes.txt"])
    (tmp_path / LISTS[kind][0]).write_text(LISTS[kind][1], newline="")
    for given in (tmp_path, tmp_path / LISTS[kind][0]):
        found = find_images(given)
        assert names(found, found.train) == {"ape": ["a.png"], "zebra": ["more/b.png"]} and not found.has_test_part
        assert found.skipped == {".txt": 1, "images that are in no list": 1}


def test_names_with_spaces_are_read_in_a_list_of_lines(tmp_path: Path) -> None:
    touch(tmp_path, ["my photo 1.png", "b.png"])
    (tmp_path / "list.txt").write_text("my photo 1.png ape\nb.png zebra\n")
    found = find_images(tmp_path)
    assert names(found, found.train) == {"ape": ["my photo 1.png"], "zebra": ["b.png"]}


def test_lists_for_training_and_testing_are_told_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, ["images/1.png", "images/2.png", "images/3.png"])
    (tmp_path / "train_labels.csv").write_text("images/1.png,2\nimages/2.png,10\n")
    (tmp_path / "VAL.csv").write_text("images/3.png,10\n")
    found = find_images(tmp_path)
    assert found.classes == ("2", "10") and found.has_test_part
    assert names(found, found.test) == {"2": [], "10": ["images/3.png"]}
    (tmp_path / "VAL.csv").write_text("images/3.png,11\n")
    assert "VAL.csv has classes that" in refused(tmp_path)
    (tmp_path / "other.csv").write_text("images/3.png,11\n")
    (tmp_path / "third.csv").write_text("images/3.png,11\n")
    assert "several lists of images, other.csv and third.csv" in refused(tmp_path)


@pytest.mark.parametrize("heading", ["", "file,label\n"])
@pytest.mark.parametrize("absent", ["none.png", f"{'x' * 300}.png"], ids=["absent", "too long a name"])
def test_a_listed_image_that_is_not_there_is_left_to_decoding(absent: str, heading: str, tmp_path: Path) -> None:
    touch(tmp_path, ["folder/1.png"])
    for listed in (["folder/1.png", absent], [absent, "folder/1.png"]):
        (tmp_path / "list.csv").write_text(heading + "".join(f"{file},a\n" for file in listed))
        found = find_images(tmp_path)
        assert names(found, found.train) == {"a": listed}


def test_a_line_that_repeats_an_image_is_counted_and_left_out(tmp_path: Path) -> None:
    """As in a list that has a line for each object in an image."""
    touch(tmp_path, ["1.png", "2.png", "3.png"])
    (tmp_path / "train.csv").write_text("1.png,a\n1.png,a\n./1.png,a\n2.png,b\n")
    (tmp_path / "test.csv").write_text("3.png,b\n3.png,b\n")
    found = find_images(tmp_path)
    assert names(found, found.train) == {"a": ["1.png"], "b": ["2.png"]}
    assert names(found, found.test) == {"a": [], "b": ["3.png"]}
    assert found.skipped == {"lines that repeat an image": 3}


def test_an_image_of_two_labels_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["1.png", "2.png"])
    (tmp_path / "list.csv").write_text("1.png,a\n2.png,b\n./1.png,b\n")
    assert "list.csv, line 3: './1.png' has the label 'b', and in an earlier line 'a'." in refused(tmp_path)


@pytest.mark.parametrize("label", ["a", "b"])
def test_an_image_for_training_and_for_testing_is_refused(label: str, tmp_path: Path) -> None:
    touch(tmp_path, ["1.png", "2.png"])
    (tmp_path / "train.csv").write_text("1.png,a\n2.png,b\n")
    (tmp_path / "test.csv").write_text(f"2.png,b\n1.png,{label}\n")
    assert "PATH/1.png is in two lists, train.csv and test.csv." in refused(tmp_path)


@pytest.mark.parametrize("outside", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_a_list_that_leads_out_of_the_folder_is_refused(outside: str, tmp_path: Path) -> None:
    root = touch(tmp_path / "images", ["1.png"])
    touch(tmp_path, ["secret.png"])
    (root / "list.csv").write_text(f"1.png,a\n{outside},a\n")
    assert "line 2" in (said := refused(root)) and "leads out of the folder" in said


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"a,b\n", b'"' * 200_000, b"x" * 5000 + b",a"])
def test_a_file_that_is_no_list_is_only_skipped(content: bytes, tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.png"])
    (tmp_path / "notes.csv").write_bytes(content)
    found = find_images(tmp_path)
    assert found.classes == ("a",) and found.skipped == {".csv": 1}


def test_a_listed_image_without_a_label_is_named(tmp_path: Path) -> None:
    touch(tmp_path, ["1.png"])
    (tmp_path / "list.csv").write_text("1.png,a\n1.png,\n")
    assert "list.csv, line 2: '1.png' has no label" in refused(tmp_path)


# -- what has no images of classes ------------------------------------------------------------------------------------


def test_what_is_expected_and_what_was_found_is_said(tmp_path: Path) -> None:
    assert "PATH has no images, nor any other file." in refused(tmp_path)
    touch(tmp_path, ["readme.txt", "a/b.txt"])
    said = refused(tmp_path)
    assert "PATH has no images; it contains only .txt (2)." in said and "PATH/CLASS/*.jpg" in said
    touch(tmp_path, ["1.png", "2.png"])
    assert "PATH has 2 images, but no folders of classes." in refused(tmp_path)
    touch(tmp_path, ["full/1.png"])
    assert "PATH/a has no images." in refused(tmp_path)
    assert "PATH/none does not exist." in refused(tmp_path / "none").replace("PATH", "PATH/none")


def test_a_part_for_testing_alone_is_refused(tmp_path: Path) -> None:
    assert "PATH has images for testing (val), and none for training." in refused(touch(tmp_path, ["val/a/1.png"]))


def test_two_folders_of_one_meaning_are_refused(tmp_path: Path) -> None:
    given = ["train/a/1.png", "test/a/1.png", "Test/a/1.png"]
    assert "PATH has Test and test" in refused(touch(tmp_path, given))


@pytest.mark.parametrize("name", ["two\nlines", " ", "red\x1b[31m"])
def test_a_class_whose_name_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    assert f"invalid name: {name!r}" in refused(touch(tmp_path, [f"{name}/1.png", "a/1.png"]))


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["a", "a/2.png", "a/more", "readme"])
def test_a_link_that_leads_out_of_the_folder_is_refused(link: str, tmp_path: Path) -> None:
    root = touch(tmp_path / "images", ["b/1.png"])
    touch(tmp_path, ["secret/1.png", "secret.png"])
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(tmp_path / ("secret.png" if link.endswith("png") else "secret"))
    assert f"PATH/{link} is a symbolic link that leads out of the folder" in refused(root)


def test_a_link_within_the_folder_is_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.png", "b/1.png"])
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "itself").symlink_to(tmp_path / "a" / "itself")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b" / "across").symlink_to(tmp_path / "c")
    found = find_images(tmp_path)
    assert names(found, found.train) == {"a": ["a/1.png"], "b": ["b/1.png", "b/across/1.png"], "c": ["c/1.png"]}


def test_links_to_each_other_end(tmp_path: Path) -> None:
    touch(tmp_path, [f"{name}/1.png" for name in "abcdefgh"])
    for one in "abcdefgh":
        for other in "abcdefgh":
            (tmp_path / one / f"to_{other}").symlink_to(tmp_path / other)
    assert sum(map(len, find_images(tmp_path).train)) <= 8 + 8 * 8


def test_what_is_no_plain_file_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.png"])
    os.mkfifo(tmp_path / "a" / "pipe.png")
    found = find_images(tmp_path)
    assert names(found, found.train) == {"a": ["a/1.png"]}


# -- without classes --------------------------------------------------------------------------------------------------


def test_unlabelled_images_are_found_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, ["b.png", "a/deep/1.jpg", "a/notes.txt"])
    assert find_unlabelled(tmp_path) == (tmp_path / "a/deep/1.jpg", tmp_path / "b.png")
    assert find_unlabelled(tmp_path / "b.png") == (tmp_path / "b.png",)
    with pytest.raises(DataError, match="no images"):
        find_unlabelled(touch(tmp_path / "empty", ["a.txt"]))


# -- holding out ------------------------------------------------------------------------------------------------------


def test_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    sizes = {"a": 1, "b": 2, "c": 3, "d": 10, "e": 13}
    folder = find_images(touch(tmp_path, [f"{name}/{at}.png" for name, size in sizes.items() for at in range(size)]))
    divided = hold_out(folder, 0.2, seed=0)
    assert [len(images) for images in divided.test] == [0, 1, 1, 2, 3]
    for own, train, test in zip(folder.train, divided.train, divided.test, strict=True):
        assert sorted(train + test) == sorted(own)
    assert hold_out(folder, 0.2, seed=0) == divided != hold_out(folder, 0.2, seed=1)


def test_another_class_changes_nothing_for_the_others(tmp_path: Path) -> None:
    touch(tmp_path, [f"{name}/{at}.png" for name in "bc" for at in range(20)])
    before = hold_out(find_images(tmp_path), 0.2, seed=0)
    after = hold_out(find_images(touch(tmp_path, ["a/0.png", "a/1.png"])), 0.2, seed=0)
    assert (after.train[1:], after.test[1:]) == (before.train, before.test)
    assert [image.name for image in before.test[0]] != [image.name for image in before.test[1]]


def test_what_is_divided_already_stays_so(tmp_path: Path) -> None:
    folder = find_images(touch(tmp_path, [f"{part}/a/{at}.png" for part in ("train", "test") for at in range(9)]))
    assert hold_out(folder, 0.2, seed=0) is folder


def test_an_image_is_not_opened_to_be_found(tmp_path: Path) -> None:
    PIL.Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "a" / "a.png")
    (tmp_path / "a" / "a.png").chmod(0)
    assert len(find_images(tmp_path).train[0]) == 1


# -- domains ----------------------------------------------------------------------------------------------------------

DOMAINS = ["photo/dog/1.png", "photo/cat/2.png", "art/dog/3.png", "art/cat/deeper/4.png"]


@pytest.mark.parametrize("domains", [None, True])
def test_folders_with_the_same_classes_are_domains(domains: bool | None, tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, DOMAINS), domains)
    assert found.domains == ("art", "photo") and found.groups == {"art": 2, "photo": 2}
    assert names(found, found.train) == {
        "art/cat": ["art/cat/deeper/4.png"],
        "art/dog": ["art/dog/3.png"],
        "photo/cat": ["photo/cat/2.png"],
        "photo/dog": ["photo/dog/1.png"],
    }


def test_folders_that_are_not_taken_for_domains_keep_what_all_have_in_them(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, DOMAINS), domains=False)
    assert (found.classes, found.domains, found.in_each) == (("art", "photo"), None, ("cat", "dog"))


def test_domains_may_be_divided_into_parts(tmp_path: Path) -> None:
    given = [f"{part}/{file}" for part in ("train", "test") for file in DOMAINS]
    found = find_images(touch(tmp_path, given), None)
    assert found.has_test_part and found.classes == ("art/cat", "art/dog", "photo/cat", "photo/dog")
    assert names(found, found.test)["photo/dog"] == ["test/photo/dog/1.png"]


def test_whole_numbers_are_in_numerical_order_within_each_domain(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, [f"{d}/{c}/a.png" for d in (10, 9) for c in (11, 2)]), True)
    assert found.classes == ("9/2", "9/11", "10/2", "10/11")


@pytest.mark.parametrize(
    "given",
    [
        ["photo/dog/1.png", "photo/cat/2.png", "art/dog/3.png"],  # a class is missing
        ["photo/dog/1.png", "photo/cat/2.png"],  # one folder
        ["ape/images/1.png", "bear/images/2.png"],  # as Tiny ImageNet comes
        [*DOMAINS, "photo/3.png"],  # an image outside
        ["ape/1.png", "bear/2.png"],
    ],
)
def test_other_folders_are_classes_and_no_domains(given: list[str], tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, given), None)
    assert found.domains is None and "/" not in "".join(found.classes)
    with pytest.raises(DataError, match="no domains that all have the same classes"):
        find_images(tmp_path, domains=True)


def test_without_being_asked_nothing_is_taken_for_domains(tmp_path: Path) -> None:
    assert find_images(touch(tmp_path, DOMAINS)).classes == ("art", "photo")


def test_groups_may_have_different_classes(tmp_path: Path) -> None:
    found = find_groups(touch(tmp_path, ["Latin/b/1.png", "Latin/a/2.png", "Greek/a/3.png"]))
    assert found.classes == ("Greek/a", "Latin/a", "Latin/b")
    assert found.groups == {"Greek": 1, "Latin": 2} and found.domains is None
