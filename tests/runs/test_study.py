"""A study asks for the runs that the command line of the same options asks for, and what is wrong in it is told with
its line."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.errors import ClbenchError, UsageError
from clbench.runs.planning import Planning
from clbench.runs.request import Request, options
from clbench.runs.saved_study import write_example
from clbench.runs.study import read_study

Write = Callable[[str], Path]

SMALL = 'strategy = ["naive", "lwf"]\nscenario = "splitdigits"\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes study.toml in the working folder."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> Path:
        Path("study.toml").write_text(text, encoding="utf-8")
        return Path("study.toml")

    return written


def requests(path: Path, **said: Any) -> list[Request]:
    return [section.request for section in read_study(path, said)]


# -- what it says -----------------------------------------------------------------------------------------------------


def test_a_key_is_the_option_of_its_name(write: Write) -> None:
    path = write(
        SMALL + 'recipe = "standard"\nseeds = [0, 3]\nsplit = [4, 3, 3]\nclass_order = "natural"\nepochs = 2\n'
        'setting = "task"\nnetwork = "cnn"\nweights = "none"\ndevice = "cpu"\nthreads = 2\nkeep_networks = "last"\n'
    )
    assert requests(path) == [
        Request.from_command_line(
            {
                "strategy": ["naive,lwf"],
                "scenario": ["splitdigits"],
                "recipe": "standard",
                "seeds": "0,3",
                "split": "4,3,3",
                "class_order": "natural",
                "epochs": 2,
                "setting": "task",
                "network": "cnn",
                "weights": "none",
                "device": "cpu",
                "threads": 2,
                "keep_networks": "last",
            }
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        'set.lwf.alpha = 2\nset."lwf:pycil".temperature = 1.5\nset.recipe.augmentation.flip = true\n',
        "[set]\nlwf.alpha = 2\n'lwf:pycil'.temperature = 1.5\nrecipe.augmentation.flip = true\n",
        '[set]\n"lwf.alpha" = "2"\n"lwf:pycil.temperature" = "1.5"\n[set.recipe]\naugmentation = { flip = true }\n',
        "set = { lwf.alpha = 2, 'lwf:pycil' = { temperature = 1.5 }, recipe.augmentation.flip = true }\n",
    ],
    ids=["dotted", "table", "quoted", "inline"],
)
def test_values_mean_what_set_with_the_same_text_means(write: Write, text: str) -> None:
    (request,) = requests(write(SMALL + text))
    assert request.set == {"lwf.alpha": "2", "lwf:pycil.temperature": "1.5", "recipe.augmentation.flip": "true"}


def test_every_grid_has_what_stands_above_except_for_what_it_says(write: Write) -> None:
    first, second, third = requests(
        write(
            SMALL + "seeds = 3\nepochs = 2\nset.lwf.alpha = 2\nset.recipe.lr = 0.1\n[[grid]]\n"
            '[[grid]]\nstrategy = "lwf"\nsplit = 2\nset.lwf.alpha = 3\n[[grid]]\nseed = 7\nset.recipe.epochs = 1\n'
        )
    )
    assert (first.strategy, first.seeds, first.split) == (["naive", "lwf"], (0, 1, 2), None)
    assert first.set == {"lwf.alpha": "2", "recipe.lr": "0.1"}
    assert (second.strategy, second.seeds, second.split) == (["lwf"], (0, 1, 2), "2")
    assert second.set == {"lwf.alpha": "3", "recipe.lr": "0.1"}
    assert (third.seeds, third.epochs) == ((7,), None)
    assert third.set == {"lwf.alpha": "2", "recipe.lr": "0.1", "recipe.epochs": "1"}


def test_paths_are_relative_to_the_study(write: Write) -> None:
    write("")
    folder = Path("studies")
    folder.mkdir()
    (folder / "order.txt").touch()
    study = folder / "mine.toml"
    study.write_text(
        'strategy = ["mine.py", "lwf:pycil", "other/mine.py:fast", "avalanche:Replay"]\n'
        'scenario = ["./photos", "a.npz"]\n'
        'network = "net.py"\nweights = "../base.pt"\nclass_order = "order.txt"\n'
    )
    (request,) = requests(study)
    assert request.strategy == ["studies/mine.py", "lwf:pycil", "studies/other/mine.py:fast", "avalanche:Replay"]
    assert request.scenario == ["studies/./photos", "studies/a.npz"]
    assert (request.network, request.weights) == ("studies/net.py", "studies/../base.pt")
    assert request.class_order == "studies/order.txt"


def test_what_is_said_beside_the_study_has_the_last_word(write: Write) -> None:
    path = write(SMALL + 'device = "cuda"\nthreads = 2\n[[grid]]\nthreads = 4\n[[grid]]\n')
    said = requests(path, device="cpu", out=Path("elsewhere"))
    assert [(each.device, each.threads, each.out) for each in said] == [
        ("cpu", 4, Path("elsewhere")),
        ("cpu", 2, Path("elsewhere")),
    ]


def test_windows_files_with_a_byte_order_mark_are_read(write: Write) -> None:
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert requests(path)[0].scenario == ["splitdigits"]


def test_runs_that_two_grids_ask_for_are_planned_once(write: Write, data: Path) -> None:
    path = write(SMALL + "[[grid]]\nseeds = 2\n[[grid]]\nseed = 1\nkeep_networks = 'last'\n[[grid]]\nseed = 2\n")
    sections = read_study(path, {"data": data, "device": "cpu"})
    runs = Planning(sections, lambda event: None).known
    assert [(run.spec.strategy.name, run.spec.seeds.run, run.keep) for run in runs] == [
        ("naive", 0, None),
        ("lwf", 0, None),
        ("naive", 1, "last"),
        ("lwf", 1, "last"),
        ("naive", 2, None),
        ("lwf", 2, None),
    ]


def test_from_python_it_takes_the_same_options_beside_it(write: Write, data: Path) -> None:
    path = write('strategy = "naive"\nscenario = "splitdigits"\nsplit = 2\nepochs = 1\n')
    (run,) = clbench.run_study(path, device="cpu", data=data, out="mine")
    assert run.path.parent == Path("mine/splitdigits/naive") and run.spec.scenario.classes_per_experience == (5, 5)
    with pytest.raises(UsageError, match="seeds cannot be given with a study"):
        clbench.run_study(path, seeds=3)
    with pytest.raises(UsageError, match="no argument 'job'; did you mean 'jobs'"):
        clbench.run_study(path, job=3)
    documented = clbench.run_study.__doc__ or ""
    for name, each in options().items():
        assert (f"    {name}: " in documented) == (each.option.belongs_to != "study")


# -- what is wrong in it ----------------------------------------------------------------------------------------------

WRONG = [
    ("there is no option 'seedss'; did you mean 'seeds'", "", "seedss = 3"),
    ("did you mean 'class_order'", "", 'class-order = "natural"'),
    ("seeds must be an integer or a sequence of integers", "", 'seeds = "many"'),
    ("epochs must be an integer", "", "epochs = 1.5"),
    ("epochs must be an integer", "", "epochs = true"),
    ("'jobs' is not part of a study", "", "jobs = 2"),
    ("'naive,lwf' is one name", 'scenario = "splitdigits"', 'strategy = "naive,lwf"'),
    ("a value must be a number", "", "set.lwf.alpha = 2020-01-01"),
    ("set must be a table", "", "set = 3"),
    ("recipe must be a string", "", "[recipe]\nlr = 0.1"),
    ("there is no option 'lwf'", "", "[lwf]\nalpha = 2"),
    ("this is not TOML", "", "recipe = quick"),
    ("cannot overwrite", "seeds = 3", "seeds = 4"),
    ("a grid must be a table of its own", "", "[grid]\nseeds = 2"),
    ("there is no option 'sed'", "[[grid]]\nseed = 1\n[[grid]]", "sed = 2"),
    ("--seed and --seeds are both given", "seeds = [0, 1]", "seed = 4"),
    ("no strategy 'lfw'", 'scenario = "splitdigits"', 'strategy = ["naive", "lfw"]'),
    ("has no preset 'pycl'", 'scenario = "splitdigits"', 'strategy = ["naive", "lwf:pycl"]'),
    ("no scenario 'splitdigit'", 'strategy = "naive"', 'scenario = "splitdigit"'),
    ("has no recipe 'quik'", "", 'recipe = "quik"'),
    ("do not divide into 3 equal", "seeds = 3", "split = 3"),
    ("covers 8 classes", "seeds = 3", 'split = "4,4"'),
    ("class order", "", 'class_order = "natrual"'),
    ("class order", "", "class_order = [1, 2]"),
    ("no setting 'tsk'", "", 'setting = "tsk"'),
    ("--tune must be", "", 'tune = "gird"'),
    ("no device 'gpu'", "", 'device = "gpu"'),
    ("--threads must be", "", "threads = 0"),
    ("--seeds needs", "", "seeds = [1, 1]"),
    ("no network 'cnnn'", "", 'network = "cnnn"'),
    ("--weights must be", "", 'weights = "pretraind"'),
    ("there is no weights file", "", 'weights = "./none.pt"'),
    ("--keep-networks must be", "", 'keep_networks = "lst"'),
    ("lwf.alpha must be", "set.lwf.temperature = 3", "set.lwf.alpha = -1"),
    ("lwf.alpha must be", 'strategy = ["naive", "lwf:pycil"]\nscenario = "splitdigits"', 'set."lwf:pycil".alpha = "x"'),
    ("lwf.alpha must be", 'strategy = "lwf"\nscenario = "splitdigits"\nset.temperature = 3', "set.alpha = -1"),
    ("no hyper-parameter 'alhpa'", "set.lwf.alpha = 2", "set.lwf.alhpa = 1"),
    ("strategy 'ewc' is not among those to run", "set.lwf.alpha = 2", "set.ewc.alpha = 1"),
    ("a recipe has no field 'lrr'", "set.recipe.lr = 1", "set.recipe.lrr = 1"),
    ("recipe.lr must be", "set.recipe.batch_size = 1", "set.recipe.lr = -1"),
    ("recipe.momentum has no effect", 'set.recipe.optimizer = "adam"', "set.recipe.momentum = 0.5"),
    ("has no setting 'widht'", 'network = "mlp"', "set.network.widht = 1"),
    ("there is only one", 'split = "8,1,1"', 'tune = "chf"'),
    ("no output unit is new", 'scenario = "splitdigits"\nsetting = "domain"', 'strategy = ["naive", "frozen"]'),
]


@pytest.mark.parametrize(("said", "before", "wrong"), WRONG, ids=[wrong for _, _, wrong in WRONG])
def test_what_is_wrong_is_told_with_its_line(write: Write, data: Path, said: str, before: str, wrong: str) -> None:
    """`wrong` is the last statement of the study, and the line is the one on which it begins."""
    head = "".join(line for line in SMALL.splitlines(keepends=True) if line.split()[0] not in before + wrong)
    text = f"# a study\n{head}{before}\n\n"
    with pytest.raises(ClbenchError) as raised:
        Planning(read_study(write(text + wrong + "\n"), {"data": data}), lambda event: None, bring=False)
    line = text.count("\n") + 1
    assert raised.value.message.startswith(f"study.toml, line {line}: ") and said in raised.value.message


def test_a_value_that_a_grid_inherits_is_told_where_it_stands(write: Write, data: Path) -> None:
    path = write('set.lwf.alpha = -1\n[[grid]]\nstrategy = "lwf"\nscenario = "splitdigits"\n')
    with pytest.raises(UsageError, match=r"^study\.toml, line 1: lwf\.alpha must be"):
        Planning(read_study(path, {"data": data}), lambda event: None)


def test_a_grid_that_lacks_something_is_told_by_its_line(write: Write) -> None:
    path = write('strategy = "lwf"\n[[grid]]\nscenario = "splitdigits"\n\n[[grid]]\nseeds = 2\n')
    with pytest.raises(UsageError, match=r"line 5: this grid does not say which scenario"):
        read_study(path, {})


def test_an_option_that_has_come_to_stand_below_set_is_told(write: Write, data: Path) -> None:
    path = write('strategy = "lwf"\nscenario = "splitdigits"\n[set]\nlwf.alpha = 2\nseeds = 3\n')
    with pytest.raises(UsageError, match=r"line 5: .*\n.*put the option seeds above"):
        Planning(read_study(path, {"data": data}), lambda event: None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "study.toml: the study does not say which strategy and which scenario"),
        (b"# nothing\n", "study.toml: the study does not say"),
        (b'strategy = "naive"\n\xff', "study.toml, line 2: this is not UTF-8"),
        (b"\0" * (2**20 + 1), "larger than"),
        (b"\0", "study.toml, line 1: this is not TOML"),
        (b'strategy = ["naive",\n\n', "this is not TOML"),
        (b"seeds = " + b"[" * 20_000, "this is not TOML"),
        (b"seeds = " + b"9" * 20_000, "this is not TOML"),
        (b"set" + b".a" * 900 + b" = 1", "no value has a name of so many parts"),
        (
            b"set" + b".a" * 5_000 + b" = 1",
            "so many parts|this is not TOML: TOML key has more than the allowed 1000 parts",
        ),
    ],
    ids=["empty", "comment", "other encoding", "huge", "binary", "cut off", "brackets", "digits", "dots", "more dots"],
)
def test_a_file_that_is_no_study_is_refused(write: Write, content: bytes, said: str) -> None:
    path = write("")
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_study(path, {})
    assert re.search(said, raised.value.message)  # tomli, before Python 3.11, allows 1,000 parts


def test_whatever_becomes_of_a_study_is_told_in_a_sentence(write: Write) -> None:
    write_example(Path(write("")).with_name("example.toml"))
    text = Path("example.toml").read_bytes().replace(b"# ", b"", 30)
    drawn = random.Random(0)
    for _ in range(200):
        damaged = bytearray(text)
        for _ in range(drawn.randint(1, 8)):
            at = drawn.randrange(len(damaged))
            damaged[at : at + drawn.randint(0, 4)] = drawn.choice(
                [b"", b'"', b"]", b"=", b"\n", b".", b"[[grid]]\n", b"\xff"]
            )
        Path("study.toml").write_bytes(damaged)
        with contextlib.suppress(UsageError):
            read_study(Path("study.toml"), {})


def test_a_folder_and_what_is_not_there_are_refused(write: Write) -> None:
    write("")
    Path("folder.toml").mkdir()
    for name, said in (("folder.toml", "is a folder"), ("none.toml", "there is no file none.toml")):
        with pytest.raises(UsageError, match=said):
            read_study(Path(name), {})
