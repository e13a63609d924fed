"""A network that knows seven digits learns further ones, and what is said of it is what its files do."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from digit_photos import write_digits
from safetensors import safe_open
from safetensors.torch import save_file
from small_runs import strategy_class

import clbench
from clbench.api.extending import plan_extension
from clbench.cli import program
from clbench.errors import DataError, PluginError, UsageError
from clbench.extension.image_sets import UNLABELLED, read_images
from clbench.extension.planning import plan
from clbench.extension.requests import ExtendRequest
from clbench.plugins.discovery import builtin_folder
from clbench.results.network_record import ImageShape

HEAD = {"network.train": "head"}


def answers(folder: Path, images: Path) -> list[tuple[str, str]]:
    """The class of each image in a folder, and the answer of the network that is stored."""
    network = clbench.load_network(folder)
    files = sorted(images.glob("*/*.png"))
    with torch.no_grad():
        scores = network(torch.stack([network.transform(PIL.Image.open(file)) for file in files]))
    return [(file.parent.name, network.classes[best]) for file, best in zip(files, scores.argmax(1), strict=True)]


@pytest.fixture(scope="module")
def extended(model, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("extended") / "model-2"
    return clbench.extend(
        model,
        photos.three,
        old_test=photos.base_test,
        unlabelled=photos.any,
        strategy="naive,frozen,slda",
        set=HEAD,
        out=out,
        threads=1,
    )


@pytest.mark.slow
def test_a_first_network_recognizes_what_it_was_trained_on(model, photos):
    found = answers(model, photos.base_test)
    assert np.mean([true == answer for true, answer in found]) > 0.8
    assert clbench.load_network(model).classes == tuple(f"digit-{n}" for n in range(7))


@pytest.mark.slow
def test_the_random_states_of_the_caller_are_left_alone(model, photos, tmp_path):
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    clbench.extend(model, photos.one, strategy="naive", set=HEAD, epochs=1, out=tmp_path / "out", threads=1)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.slow
def test_the_result_counts_what_the_stored_network_answers(extended, photos):
    found = answers(extended.folder, photos.base_test)
    stored = {each.name: each for each in extended.result.kept.classes}
    for digit in range(7):
        own = [answer for true, answer in found if true == f"digit-{digit}"]
        assert stored[f"digit-{digit}"].test_images == len(own) == 20
        assert stored[f"digit-{digit}"].correct_after == own.count(f"digit-{digit}")


@pytest.mark.slow
def test_what_was_right_before_is_what_the_old_network_answers(extended, model, photos):
    before = answers(model, photos.base_test)
    for each in extended.result.kept.classes[:7]:
        assert each.correct_before == before.count((each.name, each.name))


@pytest.mark.slow
def test_a_frame_has_a_row_for_each_strategy_and_class_with_whole_numbers(extended):
    frame = extended.frame()
    assert len(frame) == len(extended.result.candidates) * len(extended.classes)
    assert frame["correct_before"].dtype == "Int64"
    assert (frame["correct_before"].isna() == frame["is_new"]).all()


@pytest.mark.slow
def test_agreement_is_the_share_of_answers_that_stay(extended, model, photos):
    before = [answer for _, answer in answers(model, photos.any)]
    after = [answer for _, answer in answers(extended.folder, photos.any)]
    compared = extended.result.kept.on_unlabelled
    assert compared.images == len(before) == 100
    assert compared.same == sum(a == b for a, b in zip(before, after, strict=True))
    assert compared.taken_by_new == sum(answer in ("digit-7", "digit-8", "digit-9") for answer in after)


def test_the_best_mean_of_old_and_new_is_kept(extended):
    means = {each.strategy.name: (each.old_accuracy + each.new_accuracy) / 2 for each in extended.result.candidates}
    assert extended.result.kept.strategy.name == max(means, key=means.get)
    assert set(means) == {"naive", "frozen", "slda"}


@pytest.mark.slow
def test_a_fifth_of_each_new_class_is_held_out(extended):
    new = extended.result.kept.classes[7:]
    assert [(each.name, each.train_images, each.test_images) for each in new] == [
        (f"digit-{n}", 32, 8) for n in (7, 8, 9)
    ]


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(model, photos, tmp_path):
    for name in "ab":
        clbench.extend(model, photos.one, strategy="lwf_mc", out=tmp_path / name, threads=1, epochs=2)
    for file in ("network.safetensors", "network.json", "result.json"):
        one, other = ((tmp_path / name / file).read_bytes() for name in "ab")
        if file == "result.json":
            one, other = (json.dumps(_without_seconds(json.loads(each))).encode() for each in (one, other))
        assert one == other


def _without_seconds(result):
    for each in result["candidates"]:
        each.pop("seconds")
    return result


def test_the_same_command_again_does_nothing(extended, model, photos):
    before = (extended.folder / "result.json").stat().st_mtime_ns
    again = clbench.extend(
        model,
        photos.three,
        old_test=photos.base_test,
        unlabelled=photos.any,
        strategy="naive,frozen,slda",
        set=HEAD,
        out=extended.folder,
        threads=1,
    )
    assert again.result == extended.result
    assert (extended.folder / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_progress_of_continued_statistics_is_no_error_however_long_it_takes(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("clbench.training.loss_watch._SECONDS_BETWEEN_REPORTS", 0.0)
    # The network brings statistics for fetril, which trains a head to continue them.
    done = clbench.extend(model, photos.one, strategy="slda", set=HEAD, out=tmp_path / "two", threads=1)
    assert (done.folder / "result.json").is_file()


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_finished_folder_that_was_damaged_since_is_not_called_finished(model, photos, tmp_path, damage):
    def extended() -> clbench.Extended:
        return clbench.extend(model, photos.one, strategy="imprint", out=tmp_path / "out", threads=1)

    file = extended().folder / "network.safetensors"
    (file.parent / "notes.txt").write_text("mine")
    assert extended().folder == file.parent
    content = file.read_bytes()
    file.unlink()
    if damage == "cut off":
        file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"finished by this command, but is damaged: network\.safetensors") as refused:
        extended()
    assert refused.value.hint == "Remove it, and rerun the same command."


def test_a_folder_of_something_else_is_not_touched(model, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        clbench.extend(model, photos.one, out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_another_command_does_not_replace_a_finished_folder(extended, model, photos):
    before = (extended.folder / "network.safetensors").read_bytes()
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        clbench.extend(model, photos.one, strategy="naive", epochs=1, out=extended.folder, threads=1)
    assert (extended.folder / "network.safetensors").read_bytes() == before


# -- what strategies need ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_statistics_kept_in_training_are_continued_as_if_all_data_had_come_at_once(model, photos, tmp_path):
    out = clbench.extend(model, photos.three, strategy="ncm", set=HEAD, out=tmp_path / "out", threads=1)
    network = clbench.load_network(model)
    stored = clbench.load_network(out.folder)
    files = sorted((photos.three / "digit-8").glob("*.png"))
    with torch.no_grad():
        features = network.trunk(torch.stack([network.transform(PIL.Image.open(file)) for file in files]))
    held_out = out.result.kept.classes[8].test_images
    assert held_out == 8
    # The mean of the 32 training images is not known from here, but lies near the mean of all 40.
    expected, found = features.mean(0), stored.classifier.means[8]
    assert torch.nn.functional.cosine_similarity(expected, found, dim=0) > 0.99
    # The means of old classes are those of the training images of the first network, not of anything given here.
    kept = clbench.deployment.strategy_states.stored_states(model)["ncm"]
    ncm = strategy_class("ncm")(None)
    kept.restore(ncm)
    sums, counts = ncm.sums, ncm.counts
    assert torch.allclose(stored.classifier.means[:7], (sums / counts[:, None]).float())


@pytest.mark.slow
def test_statistics_are_continued_although_another_strategy_is_kept(model, photos, tmp_path):
    first = clbench.extend(model, photos.one, strategy="lwf_mc", set=HEAD, out=tmp_path / "2", threads=1)
    write_digits(tmp_path / "next", [8], 0, 20)
    then = clbench.extend(first.folder, tmp_path / "next", strategy="ncm", set=HEAD, out=tmp_path / "3", threads=1)
    assert then.result.kept.strategy.name == "ncm"
    assert len(clbench.load_network(then.folder).classifier.means) == 9


def test_statistics_of_a_trunk_that_was_trained_since_are_dropped(model, photos, tmp_path, capsys):
    out = clbench.extend(model, photos.one, strategy="naive", epochs=1, out=tmp_path / "2", threads=1)
    assert not list(out.folder.glob("state-*"))
    assert "dropped: the trunk has changed" in capsys.readouterr().err


def test_broken_files_of_strategies_that_are_not_used_cost_only_their_statistics(
    model, photos, tmp_path, monkeypatch, capsys
):
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "slda.py").write_text("import")
    (tmp_path / "strategies" / "ncm.py").write_text(f"{(builtin_folder('strategy') / 'ncm.py').read_text()}\n")
    monkeypatch.chdir(tmp_path)
    out = clbench.extend(model, photos.one, strategy="imprint", set=HEAD, out=tmp_path / "out", threads=1)
    assert [path.name for path in out.folder.glob("state-*")] == ["state-fetril.safetensors"]
    said = " ".join(capsys.readouterr().err.split())
    assert "statistics for ncm are dropped: two different files are called 'ncm'" in said
    assert "statistics for slda are dropped: two different files are called 'slda'" in said


@pytest.mark.parametrize(
    "strategy, reason",
    [
        ("er", "it replays images of the old classes"),
        ("icarl", "it replays images of the old classes"),
        ("ewc", "it needs data of the old classes"),
        ("fecam", "it needs data of the old classes"),
        ("si", "it measures during the training"),
        ("joint", "it starts from new weights"),
        ("lwf:li2016", "over one class it is always 0"),
        ("frozen", "over one class it is always 0"),
    ],
)
def test_a_strategy_that_lacks_something_says_what(model, photos, tmp_path, strategy, reason):
    with pytest.raises(UsageError, match="no strategy can extend this network") as refused:
        clbench.extend(model, photos.one, strategy=strategy, out=tmp_path / "out", threads=1)
    assert reason in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["er", "derpp", "er_ace", "mir", "agem", "gem", "icarl", "bic", "ewc", "mas", "fecam"]
)
def test_with_images_of_old_classes_it_can(model, photos, tmp_path, strategy):
    out = clbench.extend(
        model,
        photos.one,
        strategy=strategy,
        old_images=photos.old_images,
        old_test=photos.base_test,
        set=HEAD,
        epochs=None if strategy == "fecam" else 3,
        out=tmp_path / "out",
        threads=1,
    )
    assert out.result.chosen.startswith(strategy)
    assert [each.train_images for each in out.result.kept.classes] == [5] * 7 + [32]


@pytest.mark.slow
def test_replay_keeps_old_classes_that_naive_training_forgets(model, photos, tmp_path):
    out = clbench.extend(
        model,
        photos.three,
        strategy="naive,er",
        old_images=photos.old_images,
        old_test=photos.base_test,
        epochs=20,
        out=tmp_path / "out",
        threads=1,
    )
    naive, er = out.result.candidates
    assert er.old_accuracy > naive.old_accuracy + 0.2


WATCHING = """
from typing import Annotated
from annotated_types import Ge
import clbench

@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 36

class Watching(clbench.Strategy[Config]):
    \"""Replays, and raises unless all old images are still in its memory in the end.\"""

    def start(self, model):
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch):
        return batch.cross_entropy()

    def after_step(self, batch):
        self.exemplars.reservoir(batch)

    def after_experience(self, model, experience):
        labels = self.exemplars.labels.tolist()
        assert sum(label < 7 for label in labels) == 35, labels
"""


@pytest.mark.slow
def test_images_of_old_classes_that_were_given_stay_in_a_reservoir(model, photos, tmp_path):
    (tmp_path / "watching.py").write_text(WATCHING)
    clbench.extend(
        model,
        photos.three,
        strategy=str(tmp_path / "watching.py"),
        old_images=photos.old_images,
        epochs=2,
        out=tmp_path / "out",
        threads=1,
    )


@pytest.mark.slow
def test_that_a_memory_is_too_small_for_the_old_images_is_said(model, photos, tmp_path, capsys):
    given = {"strategy": "naive,er", "old_images": photos.old_images, "epochs": 1, "threads": 1}
    clbench.extend(model, photos.one, set={"er.memory": 30}, out=tmp_path / "out", **given)
    said = " ".join(capsys.readouterr().err.split())
    assert "er stores at most 30 of the 35 old images; --set er.memory=35 stores all" in said
    clbench.extend(model, photos.one, out=tmp_path / "enough", **given)
    assert "stores at most" not in capsys.readouterr().err


def test_a_prepared_strategy_that_fails_is_named(photos, tmp_path):
    code = (builtin_folder("strategy") / "ncm.py").read_text()
    (tmp_path / "own.py").write_text(re.sub(r"(def learn\(.*\n)", r"\1        raise ValueError('too many')\n", code))
    given = {"network": "mlp", "size": 8, "epochs": 1, "threads": 1}
    with pytest.raises(PluginError, match="own failed: ValueError: too many"):
        clbench.train(photos.base, prepare=tmp_path / "own.py", out=tmp_path / "out", **given)


# -- what is given ----------------------------------------------------------------------------------------------------


def test_a_class_that_is_known_already_is_refused(model, photos, tmp_path):
    write_digits(tmp_path / "new", [3, 7], 90, 10)
    with pytest.raises(UsageError, match="the network already knows digit-3"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")


@pytest.mark.slow
def test_also_old_trains_on_images_of_an_old_class_as_that_class(model, photos, tmp_path):
    write_digits(tmp_path / "new", [3, 7], 90, 10)
    out = clbench.extend(
        model,
        tmp_path / "new",
        strategy="naive",
        also_old=True,
        old_test=photos.base_test,
        out=tmp_path / "out",
        threads=1,
    )
    assert out.classes == tuple(f"digit-{n}" for n in range(8))
    assert [each.train_images for each in out.result.kept.classes] == [0, 0, 0, 8, 0, 0, 0, 8]


def test_a_network_that_has_learned_nothing_says_so_in_its_record_and_on_its_page(model, photos, tmp_path, capsys):
    values = HEAD | {"recipe.iterations": 1, "recipe.lr": 1e-9}
    out = clbench.extend(model, photos.one, strategy="lwf_mc", set=values, out=tmp_path / "out", threads=1)
    assert out.result.kept.new_accuracy == 0
    warning = "it may have learned nothing"
    assert warning in out.result.notes[-1] and warning in out.page.read_text() and warning in capsys.readouterr().err


@pytest.mark.parametrize("others", [False, True])
def test_held_out_images_of_also_old_are_test_images_of_old_classes(model, photos, tmp_path, others):
    write_digits(tmp_path / "new", [3, 7], 90, 10)
    given = {"old_test": photos.base_test} if others else {}
    out = clbench.extend(
        model, tmp_path / "new", strategy="naive", also_old=True, out=tmp_path / "out", threads=1, **given
    )
    kept, tested = out.result.kept, {each.name: each.test_images for each in out.result.kept.classes}
    without = clbench.extend(model, photos.one, strategy="imprint", out=tmp_path / "one", threads=1, **given).result
    given_tests = {each.name: each.test_images for each in without.kept.classes}
    assert tested == given_tests | {"digit-3": given_tests["digit-3"] + 2, "digit-7": 2}
    confused = [each for each in kept.confusion if each.true == "digit-3"]
    assert sum(each.images for each in confused) == tested["digit-3"]
    assert kept.on_new is not None and kept.on_new.images == tested["digit-7"]
    assert {each.role: each.images for each in out.result.images}["new_test"] == 2
    assert kept.old_accuracy is not None


def test_what_is_skipped_in_a_folder_is_said(model, photos, tmp_path, capsys):
    shutil.copytree(photos.one, tmp_path / "new")
    for name in ("a.heic", "b.heic", ".hidden", "notes.txt"):
        (tmp_path / "new" / "digit-7" / name).write_bytes(b"?")
    clbench.extend(model, tmp_path / "new", strategy="imprint", out=tmp_path / "out", threads=1)
    assert "skipped hidden files (1), .heic (2), .txt (1)" in capsys.readouterr().err


def test_of_equals_the_one_that_keeps_no_large_statistics_is_chosen(model, photos, tmp_path):
    (tmp_path / "strategies").mkdir()
    for name, kept in (("heavy", "large"), ("light", "small")):
        (tmp_path / "strategies" / f"{name}.py").write_text(
            (builtin_folder("strategy") / "ncm.py")
            .read_text()
            .replace('statistics = "small"', f'statistics = "{kept}"')
        )
    names = ",".join(str(tmp_path / "strategies" / f"{name}.py") for name in ("heavy", "light"))
    given = {"old_images": photos.old_images, "old_test": photos.base_test, "set": HEAD}
    out = clbench.extend(model, photos.one, strategy=names, out=tmp_path / "out", threads=1, **given)
    assert out.result.chosen == "light" and out.result.rule.endswith("; heavy has the same")


@pytest.mark.slow
def test_one_image_is_refused_and_two_are_learned(model, photos, tmp_path):
    write_digits(tmp_path / "new", [7], 0, 1)
    with pytest.raises(UsageError, match="the class digit-7 has 1 image"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")
    write_digits(tmp_path / "new", [7], 0, 2)
    out = clbench.extend(model, tmp_path / "new", strategy="naive", set=HEAD, out=tmp_path / "out", threads=1)
    assert (out.result.kept.classes[7].train_images, out.result.kept.classes[7].test_images) == (1, 1)


def with_copies(folder: Path, images: int, copied: int, copies: int) -> Path:
    """A class of images of digit 7; the first of them have further copies."""
    write_digits(folder, [7], 0, images)
    for file in sorted((folder / "digit-7").iterdir())[:copied]:
        for copy in range(copies):
            shutil.copy(file, file.with_name(f"{file.stem} ({copy}).png"))
    return folder


@pytest.mark.slow
def test_copies_of_an_image_are_not_tested_on(model, tmp_path, capsys):
    out = clbench.extend(model, with_copies(tmp_path / "new", 30, 10, 1), out=tmp_path / "out", threads=1)
    (found,) = out.result.kept.new_classes
    assert found.train_images == 32
    said = re.search(r"(\d) images? to test on left out as copies", " ".join(capsys.readouterr().err.split()))
    assert found.test_images == 8 - int(said[1])


@pytest.mark.slow
@pytest.mark.parametrize("extends", [False, True])
def test_of_a_folder_in_two_parts_copies_are_not_tested_on(model, tmp_path, capsys, extends):
    digits = [7, 8] if not extends else [7]
    write_digits(tmp_path / "new" / "train", digits, 0, 20)
    test = write_digits(tmp_path / "new" / "test", digits, 20, 10) / "digit-7"
    copied = tmp_path / "new" / "train" / "digit-7"
    for file in sorted(copied.iterdir())[:2]:
        shutil.copy(file, test / f"copy-{file.name}")
    if extends:
        out = clbench.extend(model, tmp_path / "new", out=tmp_path / "out", threads=1)
    else:
        out = clbench.train(tmp_path / "new", network="mlp", size=16, epochs=1, out=tmp_path / "out", threads=1)
    assert [each.test_images for each in out.result.kept.new_classes] == [10] * len(digits)
    assert "2 images to test on left out as copies" in " ".join(capsys.readouterr().err.split())


def test_images_in_the_folders_of_two_classes_are_said(model, tmp_path, capsys):
    folder = with_copies(tmp_path / "new", 20, 0, 0)
    (folder / "other").mkdir()
    for number, file in enumerate(sorted((folder / "digit-7").iterdir())[:10]):
        shutil.copy(file, folder / "other" / file.name)
        PIL.Image.new("L", (8, 8), 20 * number).save(folder / "other" / f"grey-{number}.png")
    clbench.extend(model, folder, out=tmp_path / "out", threads=1)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"\d+ images to train on in two classes, for example \S+/(\S+) and other/\1", said)


def test_an_extension_says_which_classes_it_was_not_tested_on(model, photos, tmp_path, monkeypatch, capsys):
    shutil.copytree(photos.base_test / "digit-0", tmp_path / "old-test" / "digit-0")
    command("extend", model, "--images", photos.one, "--old-test", tmp_path / "old-test", "--out", tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"test images of new classes and \d+ of old ones; none of digit-1, digit-2", said)
    command("extend", model, "--images", photos.one, "--out", tmp_path / "out-2")  # of old classes it says so below
    assert re.search(r"test images of new classes\. ", " ".join(capsys.readouterr().out.split()))


def test_a_first_network_says_which_classes_it_was_not_tested_on(tmp_path, monkeypatch, capsys):
    write_digits(tmp_path / "photos", range(2), 90, 6)
    (tmp_path / "photos" / "solo").mkdir()
    shutil.copy(next((tmp_path / "photos" / "digit-1").iterdir()), tmp_path / "photos" / "solo" / "one.png")
    command("train", "--images", tmp_path / "photos", "--network", "mlp", "--size", 16, "--out", tmp_path / "first")
    assert "images that it was not trained on; none of solo." in capsys.readouterr().out


def test_one_image_in_several_copies_is_one_image(model, tmp_path):
    with pytest.raises(UsageError, match="are copies of images to train on"):
        clbench.extend(model, with_copies(tmp_path / "new", 1, 1, 4), out=tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("extends", [False, True])
def test_that_outer_folders_are_the_classes_is_said_where_the_inner_ones_may_be(model, tmp_path, capsys, extends):
    for outer in ("art", "photo"):
        write_digits(tmp_path / "new" / outer, range(2), 90, 5)
    command = ["extend", str(model)] if extends else ["train", "--network", "mlp", "--size", "16"]
    with pytest.raises(SystemExit) as ended:
        program.application()(
            [*command, "--images", str(tmp_path / "new"), "--out", str(tmp_path / "out"), "--dry-run"]
        )
    said = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code
    assert "the classes are art, photo, although all contain the same folders: digit-0, digit-1." in said
    images = (each.relative_to(tmp_path / "new") for each in (tmp_path / "new").rglob("*.png"))
    lines = [f"{image},{image.parent.name.replace('digit', 'drawn')}" for image in images]
    (tmp_path / "new" / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(SystemExit):
        program.application()(
            [*command, "--images", str(tmp_path / "new"), "--out", str(tmp_path / "out"), "--dry-run"]
        )
    said = capsys.readouterr().out
    assert "drawn-0, 8 images to train on and 2 to test on" in said and "although" not in said


def test_a_folder_above_the_one_that_was_meant_is_told_by_what_its_classes_are(model, photos, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    shutil.copytree(photos.one, tmp_path / "photos" / "new")
    shutil.copytree(photos.base_test, tmp_path / "photos" / "base-test")
    with pytest.raises(SystemExit) as ended:
        program.application()(["extend", str(model), "--images", str(tmp_path / "photos"), "--out", "out", "--dry-run"])
    said = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code
    assert "the classes are base-test, new, although all images are in subfolders of these." in said


@pytest.mark.slow
def test_a_dry_run_names_the_statistics_that_the_real_run_keeps(model, photos, tmp_path, capsys):
    first = clbench.extend(model, photos.one, strategy="ncm", out=tmp_path / "first", set={"network.train": "head"})
    write_digits(tmp_path / "next", [8], 0, 40)
    command = [
        "extend",
        str(first.folder),
        "--images",
        str(tmp_path / "next"),
        "-s",
        "ncm",
        "--set",
        "network.train=head",
    ]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        program.application()([*command, "--out", str(tmp_path / "out"), "--dry-run"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("keeps statistics for")]
    with pytest.raises(SystemExit):
        program.application()([*command, "--out", str(tmp_path / "out")])
    kept = sorted(path.stem.removeprefix("state-") for path in (tmp_path / "out").glob("state-*"))
    assert line == f"keeps statistics for: {', '.join(kept)}"


def test_that_a_whole_network_is_trained_whose_head_alone_was_is_said(model, photos, tmp_path, capsys):
    first = clbench.extend(model, photos.one, strategy="ncm", out=tmp_path / "first", set={"network.train": "head"})
    assert "the whole network is trained" not in capsys.readouterr().err
    write_digits(tmp_path / "next", [8], 0, 40)
    first = clbench.extend(model, photos.one, strategy="imprint", out=tmp_path / "head", set={"network.train": "head"})
    capsys.readouterr()
    clbench.extend(first.folder, tmp_path / "next", strategy="naive", out=tmp_path / "whole", epochs=1)
    assert "only its head was before; --set network.train=head" in " ".join(capsys.readouterr().err.split())
    clbench.extend(first.folder, tmp_path / "next", strategy="fetril", out=tmp_path / "frozen", epochs=1)
    assert "the whole network is trained" not in capsys.readouterr().err  # it trains the head on a frozen trunk


def test_a_strategy_that_chooses_what_to_freeze_before_the_experience_extends_a_network(model, photos, tmp_path):
    (tmp_path / "chooses.py").write_text("""\"\"\"Chooses late what it freezes.\"\"\"
import clbench

class Chooses(clbench.Strategy):
    def before_experience(self, model, experience):
        self.chosen = tuple(model.blocks)
    def frozen(self, model, experience, epoch):
        return self.chosen
    def loss(self, batch):
        return batch.cross_entropy("seen")
""")
    out = clbench.extend(model, photos.one, strategy=str(tmp_path / "chooses.py"), out=tmp_path / "out", epochs=1)
    assert out.result.kept.gradient_steps > 0


def test_a_broken_image_is_named_with_what_it_was_for(model, photos, tmp_path, capsys):
    shutil.copytree(photos.one, tmp_path / "new")
    (broken := sorted((tmp_path / "new" / "digit-7").iterdir())[3]).write_bytes(b"no image")
    clbench.extend(model, tmp_path / "new", out=tmp_path / "out", threads=1)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"1 of (8|32) images to (train|test) on cannot be read and are left out: ", said)
    assert broken.name in said


def test_a_class_with_one_readable_image_is_refused_with_the_reason(model, photos, tmp_path):
    write_digits(tmp_path / "new", [7], 0, 2)
    sorted((tmp_path / "new" / "digit-7").iterdir())[0].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"digit-7, none of the images to (train|test) on can be read \(1 tried\)"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")


@pytest.mark.slow
def test_an_old_class_without_test_images_is_not_judged(model, photos, tmp_path):
    shutil.copytree(photos.base_test, tmp_path / "test")
    shutil.rmtree(tmp_path / "test" / "digit-2")
    out = clbench.extend(
        model, photos.one, strategy="naive", set=HEAD, old_test=tmp_path / "test", out=tmp_path / "out", threads=1
    )
    assert out.result.kept.classes[2].test_images == 0
    assert len(out.result.kept.old_classes) == 6
    assert "cannot be judged" in (out.folder / "report.html").read_text()


@pytest.mark.slow
def test_old_accuracy_is_unknown_without_test_images_of_old_classes(model, photos, tmp_path):
    out = clbench.extend(model, photos.one, strategy="naive", set=HEAD, out=tmp_path / "out", threads=1)
    kept = out.result.kept
    assert kept.old_accuracy is None and kept.old_accuracy_before is None
    assert kept.on_new.images == 8


def test_test_images_that_are_trained_on_are_refused(model, photos, tmp_path):
    with pytest.raises(UsageError, match="have 35 images in common"):
        clbench.extend(
            model,
            photos.one,
            strategy="er",
            old_images=photos.old_images,
            old_test=photos.old_images,
            out=tmp_path / "out",
            threads=1,
        )


def test_test_images_of_an_old_class_that_are_trained_on_as_a_new_one_are_refused(model, photos, tmp_path):
    shutil.copytree(photos.base_test / "digit-0", tmp_path / "new" / "zero")
    with pytest.raises(UsageError, match="--images and --old-test have 16 images in common"):
        clbench.extend(
            model, tmp_path / "new", held_out=0.2, old_test=photos.base_test, out=tmp_path / "out", threads=1
        )


def test_a_folder_of_known_classes_alone_is_refused_without_recommending_what_is_refused_next(model, photos, tmp_path):
    write_digits(tmp_path / "new", [3], 90, 10)
    with pytest.raises(UsageError, match=r"no new class in .*: the network already knows digit-3.*\n.*or add one"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")


def test_test_images_that_also_old_trains_on_are_refused(model, photos, tmp_path):
    shutil.copytree(photos.one, tmp_path / "new")
    shutil.copytree(photos.base_test / "digit-0", tmp_path / "new" / "digit-0")
    with pytest.raises(UsageError, match="--images and --old-test have 16 images in common"):
        clbench.extend(
            model, tmp_path / "new", also_old=True, old_test=photos.base_test, out=tmp_path / "out", threads=1
        )


def test_test_images_of_also_old_that_are_old_images_to_train_on_are_named_so(model, photos, tmp_path):
    shutil.copytree(photos.one, tmp_path / "new")
    shutil.copytree(photos.old_images / "digit-0", tmp_path / "new" / "digit-0")
    given = {"strategy": "er", "also_old": True, "old_images": photos.old_images, "threads": 1}
    with pytest.raises(UsageError, match="--old-images and the test images of --also-old have 1 image in common"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out", **given)


def test_a_single_unlabelled_image_is_named_as_its_file(photos, tmp_path):
    file = next(photos.any.glob("digit-3/*.png"))
    shape = ImageShape(height=16, width=16, channels=3)
    found = read_images("unlabelled", file, [(file, UNLABELLED)], shape, lambda event: None, tmp_path)
    assert found.names == (file.name,)


def test_test_images_of_a_class_that_the_network_does_not_know_are_refused(model, photos, tmp_path):
    with pytest.raises(UsageError, match="--old-test has classes that the network does not know: digit-7"):
        clbench.extend(model, photos.one, old_test=photos.three, out=tmp_path / "out")


@pytest.mark.slow
def test_four_hundred_new_classes(model, photos, tmp_path):
    draw = np.random.default_rng(0)
    for each in range(400):
        (tmp_path / "new" / f"c{each:03}").mkdir(parents=True)
        for number in range(2):
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "new" / f"c{each:03}" / f"{number}.png")
    out = clbench.extend(
        model,
        tmp_path / "new",
        strategy="naive",
        set=HEAD,
        epochs=1,
        old_test=photos.base_test,
        out=tmp_path / "out",
        threads=1,
    )
    assert len(clbench.load_network(out.folder).classes) == 407
    assert len((out.folder / "report.html").read_bytes()) < 2 * 2**20


@pytest.mark.slow
def test_images_of_another_size_and_mode_are_learned(model, tmp_path):
    place = tmp_path / "new" / "stripes"
    place.mkdir(parents=True)
    for number, (mode, size) in enumerate([("L", (40, 30)), ("RGBA", (16, 16)), ("P", (99, 5)), ("CMYK", (12, 50))]):
        suffix = "tif" if mode == "CMYK" else "png"
        PIL.Image.effect_noise(size, 50).convert("RGB").convert(mode).save(place / f"{number}.{suffix}")
    out = clbench.extend(model, tmp_path / "new", strategy="naive", set=HEAD, out=tmp_path / "out", threads=1)
    assert out.result.kept.classes[7].train_images + out.result.kept.classes[7].test_images == 4


@pytest.mark.parametrize("content", ["empty", "no classes", "missing"])
def test_a_folder_without_classes_is_refused(model, tmp_path, content):
    if content != "missing":
        (tmp_path / "new").mkdir()
    if content == "no classes":
        (tmp_path / "new" / "notes.txt").write_text("no image")
    with pytest.raises((DataError, UsageError)):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_lineage_names_every_step(model, photos, tmp_path):
    first = clbench.extend(model, photos.one, strategy="naive", set=HEAD, epochs=1, out=tmp_path / "2", threads=1)
    write_digits(tmp_path / "next", [8], 0, 20)
    second = clbench.extend(
        first.folder, tmp_path / "next", strategy="lwf_mc", set=HEAD, epochs=1, out=tmp_path / "3", seed=5, threads=1
    )
    steps = clbench.load_network(second.folder).record.lineage
    assert [(step.command, step.strategy, step.classes[-1:], step.images, step.seed) for step in steps] == [
        ("train", "naive", ("digit-6",), 336, 0),
        ("extend", "naive", ("digit-7",), 32, 0),
        ("extend", "lwf_mc", ("digit-8",), 16, 5),
    ]
    page = second.page.read_text()
    assert all(step.id[:16] in page for step in steps)  # a step has one name, wherever it is named


@pytest.mark.slow
def test_a_step_has_one_number_of_images_on_its_own_page_and_on_the_next(model, photos, tmp_path):
    given = {"old_images": photos.old_images, "epochs": 1, "threads": 1}
    first = clbench.extend(model, photos.one, strategy="er", out=tmp_path / "2", **given)
    write_digits(tmp_path / "next", [8], 0, 20)
    second = clbench.extend(first.folder, tmp_path / "next", strategy="naive", out=tmp_path / "3", threads=1)
    assert [step.images for step in second.result.lineage] == [336, 67]  # 32 new ones, and 5 of each of 7 old classes
    assert all("<td>67</td>" in each.page.read_text() for each in (first, second))


# -- what the command prints ------------------------------------------------------------------------------------------


def command(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["clbench", *map(str, arguments)])
        program.main()
    assert ended.value.code in (0, None)


@pytest.mark.parametrize(("export", "name"), [("onnx", "network.onnx"), ("safetensors", "export.safetensors")])
def test_the_result_says_what_it_rests_on_and_which_files_were_written(
    extended, model, photos, monkeypatch, capsys, export, name
):
    monkeypatch.setattr("clbench.api.extending.extend_request", lambda request, console: extended.result)
    command("extend", model, "--images", photos.three, "--out", "new", "--export", export)
    said = capsys.readouterr().out
    assert "On 24 test images of new classes and 140 of old ones." in said  # a fifth of 3 x 40, and 7 x 20
    assert "unlabelled images predicted as by the old network" in said
    assert f"new/{name}: the same for use without clbench" in said
    assert "\nTo use it: clbench predict new IMAGES…\n" in said


def test_a_folder_whose_name_has_a_space_is_quoted_in_the_next_command(extended, model, photos, monkeypatch, capsys):
    monkeypatch.setattr("clbench.api.extending.extend_request", lambda request, console: extended.result)
    command("extend", model, "--images", photos.three, "--out", "my new", "--network", "my net.py")
    assert "\nTo use it: clbench predict 'my new' IMAGES… --network 'my net.py'\n" in capsys.readouterr().out


@pytest.mark.parametrize(("strategy", "loses"), [("naive", True), ("slda", False)])
def test_if_the_only_strategy_loses_much_the_others_are_pointed_at(
    extended, model, photos, monkeypatch, capsys, strategy, loses
):
    only = tuple(each for each in extended.result.candidates if each.strategy.name == strategy)
    result = extended.result.model_copy(update={"candidates": only, "chosen": strategy})
    monkeypatch.setattr("clbench.api.extending.extend_request", lambda request, console: result)
    command("extend", model, "--images", photos.three, "--out", "new")
    assert ("-s all tries every strategy" in capsys.readouterr().out) == loses


def test_a_dry_run_names_classes_one_a_line_and_strategies_in_one(model, photos, tmp_path, capsys):
    command("extend", model, "--images", photos.three, "-s", "naive,slda", "--out", tmp_path / "new", "--dry-run")
    said = capsys.readouterr().out
    assert "\nkeeps statistics for: fetril, ncm, slda\n" in said and "\nstrategy: naive, slda\n" in said
    assert "\nnew classes:\n  digit-7, 32 images to train on and 8 to test on\n" in said
    assert "left out" not in said


# -- what strategies kept, damaged ------------------------------------------------------------------------------------


def with_values(folder: Path, change) -> None:
    """Change what the file of slda's statistics says, as a stranger would who also leaves out its hash."""
    (folder / "MANIFEST.json").unlink()
    path = folder / "state-slda.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()["clbench"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"clbench": change(about)})


@pytest.mark.parametrize("name", ["config", "predict", "__class__"])
def test_kept_statistics_cannot_replace_what_a_strategy_is(model, photos, tmp_path, name):
    def replaced(about: str) -> str:
        values = json.loads(about)
        values["values"][name] = None
        return json.dumps(values)

    shutil.copytree(model, tmp_path / "model")
    with_values(tmp_path / "model", replaced)
    with pytest.raises(DataError, match=f"is damaged: ValueError: {name} is not something that a strategy keeps"):
        clbench.extend(tmp_path / "model", photos.one, strategy="slda", out=tmp_path / "out", threads=1)


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory) -> Path:
    """A network with which fecam, with another shrinkage than usual, and ewc keep what they need."""
    out = tmp_path_factory.mktemp("prepared") / "model"
    given = {"prepare": "fecam,ewc", "set": {"fecam.variance_shrinkage": 2}}
    return clbench.train(photos.base, network="mlp", size=8, epochs=1, out=out, threads=1, **given).folder


def config_of(prepared: Path, photos, out: Path, strategy: str, values: dict[str, float]) -> dict[str, float]:
    request = ExtendRequest(source=prepared, images=photos.three, out=out, strategy=(strategy,), set=values)
    (tried,) = plan(request, (), lambda event: None).tried
    return tried.spec.config


def test_statistics_are_not_mixed_with_those_of_another_value(prepared, photos, tmp_path):
    message = r"fecam\.power = 1\.0, but what is kept with the network was made with fecam\.power = 0\.5"
    with pytest.raises(UsageError, match=message) as refused:
        config_of(prepared, photos, tmp_path / "out", "fecam", {"fecam.power": 1})
    assert (refused.value.hint or "").endswith("clbench train --prepare fecam --set fecam.power=1.0")


@pytest.mark.parametrize(
    ("strategy", "values", "expected"),
    [
        ("fecam", {"fecam.power": 0.5}, {"power": 0.5, "variance_shrinkage": 2.0, "covariance_shrinkage": 1.0}),
        ("ewc", {"ewc.strength": 7}, {"strength": 7.0}),  # it weighs what is kept, and may differ
    ],
)
def test_what_is_set_is_on_top_of_what_the_statistics_were_made_with(
    prepared, photos, tmp_path, strategy, values, expected
):
    assert config_of(prepared, photos, tmp_path / "out", strategy, values) == expected


def test_statistics_of_which_a_byte_has_changed_are_not_used(model, photos, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / "state-ncm.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"state-ncm.safetensors is damaged: .* not what MANIFEST.json says"):
        clbench.extend(tmp_path / "model", photos.one, strategy="ncm", out=tmp_path / "out", threads=1)


def test_statistics_that_are_gone_are_missed(model, photos, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "state-ncm.safetensors").unlink()
    planned = plan_extension(ExtendRequest(source=tmp_path / "model", images=photos.one, out=tmp_path / "out"))
    assert planned["strategy"] == ["imprint"]
    assert f"the kept statistics for ncm are missing in {tmp_path / 'model'}" in planned["notes"]


def test_statistics_that_are_nested_without_end_are_damaged(model, photos, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    with_values(tmp_path / "model", lambda about: '{"list":[' * 20_000 + "]}" * 20_000)
    with pytest.raises(DataError, match="is damaged: RecursionError"):
        clbench.extend(tmp_path / "model", photos.one, out=tmp_path / "out", threads=1)


def test_a_network_of_huge_images_is_damaged_and_not_built(model, photos, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / "network.json"
    record = json.loads(path.read_text())
    record["input"]["image"]["height"] = 16_384
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"is damaged: input.image.height: .* less than or equal to 2048"):
        clbench.extend(tmp_path / "model", photos.one, out=tmp_path / "out", threads=1)


@pytest.mark.slow
def test_without_a_strategy_statistics_that_are_kept_are_used_and_else_imprint(model, photos, tmp_path):
    kept = clbench.extend(model, photos.one, set=HEAD, out=tmp_path / "kept", threads=1)
    assert kept.result.chosen == "ncm"
    shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("state-*", "MANIFEST.json"))
    bare = clbench.extend(tmp_path / "bare", photos.one, set=HEAD, out=tmp_path / "out", threads=1)
    assert bare.result.chosen == "imprint"


@pytest.mark.slow
def test_images_whose_names_are_not_utf_8_are_named_in_the_result(model, photos, tmp_path):
    unlabelled = shutil.copytree(photos.three, tmp_path / "old names")
    for image in unlabelled.glob("*/*.png"):
        image.rename(os.fsdecode(os.fsencode(image.with_name("caf")) + b"\xe9" + os.fsencode(image.name)))
    extended = clbench.extend(
        model, photos.one, unlabelled=unlabelled, strategy="imprint", out=tmp_path / "out", threads=1
    )
    changed = [each.image for each in extended.result.kept.changed if each.role == "unlabelled"]
    assert changed
    assert all(re.fullmatch(r"digit-\d/caf\\xe9\d{4}\.png", name) for name in changed)


@pytest.mark.slow
def test_statistics_that_a_diverging_training_would_continue_are_dropped(model, photos, tmp_path, capsys):
    recipe = {**HEAD, "recipe.lr": 1e38}
    out = clbench.extend(model, photos.one, strategy="naive,imprint", set=recipe, out=tmp_path / "out", threads=1)
    assert out.result.chosen == "imprint"
    assert not (tmp_path / "out" / "state-fetril.safetensors").exists()
    assert (tmp_path / "out" / "state-ncm.safetensors").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert re.search("statistics for fetril are dropped: .* the loss became", said)


@pytest.mark.slow
def test_that_what_a_strategy_measured_of_its_own_training_is_dropped_is_said_so(photos, tmp_path, capsys):
    words = {"network": "mlp", "size": 16, "epochs": 1, "threads": 1, "prepare": "ewc"}
    clbench.train(photos.base, out=tmp_path / "model", **words)
    clbench.extend(tmp_path / "model", photos.one, strategy="imprint", out=tmp_path / "out", threads=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "statistics for ewc are dropped: they describe weights that it trains itself" in said


def test_a_channel_that_all_training_images_have_alike_is_not_divided_by_a_rounding_error(tmp_path):
    ramp = np.arange(16, dtype=np.uint8) * 10
    for name, first in (("a", 0), ("b", 50)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((16, 16, 3), 51, dtype=np.uint8)
            pixels[:, :, 0] = ramp + first + number
            PIL.Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    out = clbench.train(
        tmp_path / "images", network="mlp", size=16, epochs=1, prepare="none", out=tmp_path / "out", threads=1
    )
    assert out.result.input.mean[1:] == (0.2, 0.2)
    assert out.result.input.std[1:] == (0, 0)
