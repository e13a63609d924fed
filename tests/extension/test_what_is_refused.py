"""Values that make no sense, and options that would have no effect, are refused before anything is trained."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from digit_photos import write_digits

import clbench
from clbench.api.extending import plan_extension, plan_training
from clbench.errors import MachineError, UsageError
from clbench.extension.requests import ExtendRequest, TrainRequest


@pytest.fixture
def silent(capsys):
    """A function that is true as long as no strategy has begun to train."""
    return lambda: "epoch" not in (said := capsys.readouterr().err) and "steps" not in said


HEAD = {"network.train": "head"}


def divided(folder: Path) -> Path:
    """A folder of digit 7 that has a part for testing."""
    write_digits(folder / "train", [7], 0, 10)
    write_digits(folder / "test", [7], 10, 5)
    return folder


@pytest.mark.parametrize(
    "values, message",
    [
        ({"size": 0}, "--size must be from 1 to 2048 pixels"),
        ({"size": -3}, "--size must be from 1 to 2048 pixels"),
        ({"size": 100_000}, "--size must be from 1 to 2048 pixels"),
        ({"threads": 0}, "--threads must be an integer from 1"),
        ({"export": "onx"}, "--export must be one of onnx, .*did you mean 'onnx'"),
        ({"set": {"recipe.iterations": 3}}, "--epochs and --set recipe.iterations are both given"),
    ],
)
def test_a_first_network_with_impossible_values_is_refused(photos, tmp_path, silent, values, message):
    usual = {"network": "mlp", "size": 16, "epochs": 1, "threads": 1}
    with pytest.raises(UsageError, match=message):
        clbench.train(photos.base, out=tmp_path / "out", **{**usual, **values})
    assert silent()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"export": "onx"}, "--export must be one of onnx"),
        ({"threads": 0}, "--threads must be an integer from 1"),
        ({"set": {"recpe.lr": 1}}, r"'recpe' is not among those to run; did you mean 'recipe'\?"),
        ({"fit": "pad"}, "--fit is for a network from elsewhere"),
    ],
)
def test_an_extension_with_impossible_values_is_refused(model, photos, tmp_path, silent, values, message):
    with pytest.raises(UsageError, match=message):
        clbench.extend(model, photos.one, out=tmp_path / "out", **values)
    assert silent()


def test_a_package_that_an_export_lacks_is_missed_before_training(model, photos, tmp_path, silent, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # an import then fails as if it were not there
    given = {"export": "onnx", "out": tmp_path / "out", "threads": 1}
    with pytest.raises(MachineError, match="--export onnx needs the package onnx"):
        clbench.train(photos.base, network="mlp", size=8, epochs=1, **given)
    with pytest.raises(MachineError, match="--export onnx needs the package onnx"):
        clbench.extend(model, photos.one, strategy="naive", **given)
    assert silent() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "no network is given"),
        (("network", "weights"), "a network from elsewhere needs --classes, too"),
        (("weights",), "a network from elsewhere needs --network and --classes, too"),
    ],
)
def test_what_a_network_from_elsewhere_still_needs_is_named(photos, tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        clbench.extend(None, photos.one, out=tmp_path / "out", **dict.fromkeys(given, "file"))


def test_a_share_cannot_be_held_out_of_what_is_divided_already(model, tmp_path):
    with pytest.raises(UsageError, match="--held-out has no effect here"):
        clbench.extend(model, divided(tmp_path / "new"), held_out=0.3, out=tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused_by_a_dry_run(model, photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"cannot write to .*file is a file"):
        plan_training(TrainRequest(network="mlp", images=photos.base, out=tmp_path / "file" / "out"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # as chmod does, but not for root
    with pytest.raises(MachineError, match="permission denied"):
        plan_extension(ExtendRequest(source=model, images=photos.one, out=tmp_path / "new" / "out"))
    assert not (tmp_path / "new").exists()


def test_the_root_is_refused_as_the_folder_to_write(model, photos):
    with pytest.raises(UsageError, match=r"^/ exists, and is not replaced"):
        plan_extension(ExtendRequest(source=model, images=photos.one, out=Path("/")))


def test_pretrained_weights_are_trained_first(photos, tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(UsageError, match="--weights pretrained has no classes") as refused:
        clbench.extend(
            network="timm:resnet18",
            weights="pretrained",
            classes=tmp_path / "classes.txt",
            images=photos.one,
            out=tmp_path / "out",
        )
    assert "clbench train" in (refused.value.hint or "")


def test_a_dry_run_of_training_says_where_the_weights_are_from(photos, tmp_path):
    planned = plan_training(TrainRequest(images=photos.base, network="mlp", size=16, out=tmp_path / "out"))
    assert planned["weights"] == "drawn at random"


@pytest.mark.parametrize("option", ["images", "old_test", "unlabelled"])
def test_the_output_may_not_lie_among_the_images(model, photos, tmp_path, option):
    folders = {"images": photos.one, "old_test": photos.base_test, "unlabelled": photos.any}
    folders[option] = shutil.copytree(folders[option], tmp_path / "photos")
    with pytest.raises(UsageError, match="a folder of images"):
        clbench.extend(model, out=tmp_path / "photos" / "out", threads=1, **folders)
    with pytest.raises(UsageError, match="a folder of images"):
        clbench.train(folders["images"], network="mlp", out=folders["images"] / "out")


@pytest.mark.parametrize("name", ["Digit-3", "digit-3 ", " digit-3", "DIGIT-3"])
def test_a_name_that_is_known_but_for_its_writing_is_refused(model, photos, tmp_path, name):
    shutil.copytree(photos.one / "digit-7", tmp_path / "new" / name)
    with pytest.raises(UsageError, match=f"the class {name!r} differs from 'digit-3' only in capitals"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out", also_old=True)


def test_also_old_is_refused_where_the_strategy_would_ignore_the_images(model, photos, tmp_path):
    write_digits(tmp_path / "new", [3, 7], 0, 4)
    with pytest.raises(UsageError, match="imprint: it learns from images of new classes alone, and --also-old has"):
        clbench.extend(model, tmp_path / "new", strategy="imprint", out=tmp_path / "out", also_old=True)
    out = clbench.extend(
        model, tmp_path / "new", strategy="imprint,naive", set=HEAD, out=tmp_path / "out", also_old=True, threads=1
    )
    assert ([each.strategy for each in out.result.left_out], out.result.chosen) == (["imprint"], "naive")


def test_also_old_is_refused_where_there_is_no_old_class(model, photos, tmp_path):
    with pytest.raises(UsageError, match="--also-old has no effect here: the network knows no class in "):
        clbench.extend(model, photos.one, out=tmp_path / "out", also_old=True)


def test_accents_are_the_same_however_they_are_encoded(model, photos, tmp_path):
    for name in ("caf\u00e9", "cafe\u0301"):
        shutil.copytree(photos.one / "digit-7", tmp_path / "new" / name)
    with pytest.raises(UsageError, match="only in capitals, spaces or the encoding of accents"):
        clbench.extend(model, tmp_path / "new", out=tmp_path / "out")


def test_a_first_network_has_no_classes_whose_names_differ_only_in_their_writing(photos, tmp_path):
    for name in ("caf\u00e9", "Cafe\u0301"):
        shutil.copytree(photos.one / "digit-7", tmp_path / "new" / name)
    with pytest.raises(UsageError, match="only in capitals, spaces or the encoding of accents"):
        plan_training(TrainRequest(images=tmp_path / "new", network="mlp", size=16, out=tmp_path / "out"))


# -- options that no strategy of those asked for would notice ---------------------------------------------------------


@pytest.mark.parametrize("strategy", ["imprint", "naive", "ncm"])
def test_old_images_that_no_strategy_uses_are_refused(model, photos, tmp_path, silent, strategy):
    with pytest.raises(UsageError, match=f"--old-images has no effect here: {strategy} uses none"):
        clbench.extend(model, photos.one, strategy=strategy, old_images=photos.old_images, out=tmp_path / "out")
    assert silent()


@pytest.mark.slow
def test_what_needs_images_of_each_old_class_is_left_out_where_one_has_none(model, photos, tmp_path, capsys):
    few = tmp_path / "few"
    shutil.copytree(photos.old_images, few)
    shutil.rmtree(few / "digit-3")
    done = clbench.extend(
        model, photos.one, strategy="er,acil,ewc,icarl", old_images=few, epochs=1, out=tmp_path / "out", threads=1
    )
    assert [each.strategy.name for each in done.result.candidates] == ["er"]
    assert {each.strategy.partition(":")[0] for each in done.result.left_out} == {"acil", "ewc", "icarl"}
    assert {each.reason for each in done.result.left_out} == {
        "it needs images of each old class, and --old-images has none of digit-3"
    }
    said = " ".join(capsys.readouterr().err.split())
    assert "--old-images has no images of digit-3, which are not replayed" in said


@pytest.mark.slow
def test_old_images_count_as_trained_on_for_those_that_use_them(model, photos, tmp_path):
    out = clbench.extend(
        model, photos.one, strategy="er,naive", old_images=photos.old_images, epochs=1, out=tmp_path / "out", threads=1
    )
    er, naive = ([each.train_images for each in own.classes] for own in out.result.candidates)
    assert er == [5] * 7 + [32]
    assert naive == [0] * 7 + [32]


@pytest.mark.parametrize(
    "values, option",
    [
        ({"epochs": 2}, "--epochs"),
        ({"set": {"recipe.lr": 0.1}}, r"recipe\.lr"),
        ({"set": {"network.train": 1}}, r"network\.train"),
    ],
)
def test_a_recipe_without_a_strategy_that_trains_is_refused(model, photos, tmp_path, values, option):
    with pytest.raises(UsageError, match=f"{option} has no effect here: imprint, slda take no gradient steps"):
        clbench.extend(model, photos.one, strategy="imprint,slda", out=tmp_path / "out", **values)


@pytest.mark.slow
def test_a_strategy_without_gradient_steps_is_not_said_to_take_some(model, photos, tmp_path, capsys):
    clbench.extend(model, photos.one, strategy="imprint,naive", epochs=1, out=tmp_path / "out", threads=1)
    said = capsys.readouterr().err
    assert "imprint: no gradient steps" in said
    assert "naive: 1 epoch" in said


@pytest.mark.parametrize(
    "strategy, reason",
    [
        ("icarl", "it keeps images"),
        ("si", "it measures during the training"),
        ("lwf_mc", "it needs nothing of"),
    ],
)
def test_nothing_is_prepared_for_a_strategy_that_cannot_use_it(photos, tmp_path, silent, strategy, reason):
    with pytest.raises(UsageError, match=f"--prepare {strategy}: {reason}"):
        clbench.train(photos.base, network="mlp", size=16, prepare=[strategy], out=tmp_path / "out", threads=1)
    assert silent()


def test_values_of_strategies_that_are_not_prepared_are_refused(photos, tmp_path, silent):
    values = {"ewc.strength": 3}
    with pytest.raises(UsageError, match=r"--set ewc\.strength has no effect here"):
        clbench.train(photos.base, network="mlp", size=16, prepare=["none"], set=values, out=tmp_path / "out")
    assert silent()


# -- what a dry run says ----------------------------------------------------------------------------------------------


def planned(model: Path, images: Path, out: Path, *strategies: str, **values: object) -> dict[str, object]:
    return plan_extension(ExtendRequest(source=model, images=images, out=out, strategy=strategies, set=values))


def test_a_dry_run_names_who_would_be_left_out_and_why(model, photos, tmp_path):
    found = planned(model, photos.one, tmp_path / "out", "naive", "er", "slda", "joint")
    assert found["strategy"] == ["naive", "slda"]
    assert [line.partition(": it ")[0] for line in found["left out"]] == ["er", "joint"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "strategies, recipe",
    [
        (("ncm",), "no gradient steps"),
        (("ncm", "imprint"), "no gradient steps"),
        (("ncm", "naive"), "extend-whole, 100 steps; ncm takes no gradient steps"),
        (("naive", "lwf_mc"), "extend-whole, 100 steps"),
    ],
)
def test_a_dry_run_says_whether_steps_are_taken(model, photos, tmp_path, strategies, recipe):
    assert planned(model, photos.one, tmp_path / "out", *strategies)["recipe"] == recipe


@pytest.mark.parametrize(("train", "recipe"), [("head", "extend"), ("all", "extend-whole"), ("1", "extend-whole")])
def test_long_steps_are_cut_where_more_than_the_head_is_trained(model, photos, tmp_path, train, recipe):
    found = planned(model, photos.one, tmp_path / "out", "naive", **{"network.train": train})
    assert found["recipe"] == f"{recipe}, 100 steps"
    out = clbench.extend(model, photos.one, strategy="naive", set={"network.train": train}, out=tmp_path / "out")
    assert out.result.recipe.config.clip_norm == (None if train == "head" else 1.0)


def test_a_dry_run_refuses_what_the_command_would(model, photos, tmp_path):
    with pytest.raises(UsageError, match="no strategy can extend this network"):
        planned(model, photos.one, tmp_path / "out", "lwf:li2016")


def test_a_strategy_and_the_preset_that_it_is_are_one_strategy_named_twice(model, photos, tmp_path):
    with pytest.raises(UsageError, match="strategy lwf:li2016 is named twice: lwf, lwf:li2016"):
        planned(model, photos.three, tmp_path / "out", "lwf", "lwf:li2016")


def test_a_dry_run_says_that_the_folder_is_there(model, photos):
    assert planned(model, photos.one, model, "naive")["writes"] == (
        f"{model}, which exists: kept if the same command made it, otherwise refused"
    )


# -- from Python ------------------------------------------------------------------------------------------------------


def test_without_images_the_working_folder_is_not_taken(model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.one)
    with pytest.raises(UsageError, match="images, the folder of the new classes, must be given"):
        clbench.extend(model, out=tmp_path / "out")


def test_strategies_to_prepare_may_be_named_in_one_text(photos, tmp_path):
    with pytest.raises(UsageError, match="--prepare er: it keeps images"):
        clbench.train(photos.base, network="mlp", size=16, prepare="er,ewc", out=tmp_path / "out")


def test_validation_of_single_images_is_refused(model, tmp_path):
    write_digits(tmp_path / "new", [7], 0, 2)
    held_out = {"recipe.validation": 0.2, "recipe.schedule": "plateau"}
    with pytest.raises(UsageError, match="each class has only one"):
        clbench.extend(model, tmp_path / "new", strategy="naive", set=held_out, out=tmp_path / "out")
