"""The audit: every cheating strategy is caught, and every honest one passes."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import clbench
from clbench.audit.audit import Audit
from clbench.audit.object_graph import carried_bytes
from clbench.audit.per_sample_values import grown_with_samples, kept_rows
from clbench.audit.sample_search import SampleShape, added_to_builtins, leaves, samples_in
from clbench.base.exemplars import ExemplarMemory
from clbench.comparison.grouping import compare
from clbench.data.batches import Scaling
from clbench.plugins.discovery import builtin_folder

CHEATERS = Path(__file__).parents[1] / "cheating_strategies"
CAUGHT = {
    "peeks_at_old_data": "old data",
    "peeks_at_future_data": "future data",
    "peeks_at_test_data": "test data",
    "opens_the_data_again": "data files",
    "keeps_images_in_a_global": "memory",
    "keeps_images_as_arrays": "memory",
    "keeps_images_as_bytes": "memory",
    "keeps_images_as_weights": "memory",
    "keeps_images_in_a_closure": "memory",
    "keeps_images_in_a_context_variable": "memory",
    "keeps_images_in_a_default_argument": "memory",
    "keeps_images_in_a_deque": "memory",
    "keeps_images_in_a_hook_of_the_network": "memory",
    "keeps_images_in_a_nested_class": "memory",
    "keeps_images_in_a_queue": "memory",
    "keeps_images_in_builtins": "memory",
    "keeps_images_on_a_weight": "memory",
    "keeps_pictures": "memory",
    "keeps_shuffled_images_at_half_precision": "memory",
    "keeps_more_than_it_declares": "memory",
    "learns_during_evaluation": "learning in evaluation",
    "learns_during_evaluation_in_a_deque": "learning in evaluation",
    "balances_predictions_over_the_test_batch": "batch mates",
    "normalises_by_the_test_batch": "training mode at test",
    "reads_the_task_label": "task label",
}
WARNED_OF = {
    "keeps_a_file_open": "files",
    "keeps_features_of_every_sample": "per-sample values",
    "keeps_images_in_a_file": "files",
    "loads_the_data_from_elsewhere": "files",
    "reads_the_data_in_another_process": "processes",
}
HONEST = sorted(path.stem for path in builtin_folder("strategy").glob("*.py"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Split digits with a convolutional network, which has batch normalisation, for one epoch."""
    folder = tmp_path_factory.mktemp("scenarios")
    text = (builtin_folder("scenario") / "splitdigits.py").read_text()
    text = (
        text.replace('network="mlp"', 'network="cnn"')
        .replace("epochs=10", "epochs=1")
        .replace("batch_size=32", "batch_size=40")
    )
    (folder / "smalldigits.py").write_text(text)
    return str(folder / "smalldigits.py")


def run(strategy: str, small: str, data: Path, out: Path, **more: Any) -> Any:
    os.environ["CHEATER_DATA"] = str(data)
    return clbench.run(strategy, small, threads=1, out=out, data=data, **more)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CAUGHT))
def test_every_cheater_is_caught_for_what_it_does(name: str, small: str, data: Path, tmp_path: Path) -> None:
    stored = run(str(CHEATERS / f"{name}.py"), small, data, tmp_path)
    assert stored.result.status == "finished"
    found = {finding.name for finding in stored.result.audit.findings}
    assert CAUGHT[name] in found
    assert stored.result.audit.verdict.startswith("violation(") and CAUGHT[name] in compare([stored])[0].rows[0].audit


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", sorted(WARNED_OF))
def test_what_may_be_cheating_is_warned_of(
    name: str, small: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEATER_FILE", str(tmp_path / "file.npy"))
    (tmp_path / "file.npy").touch()
    stored = run(str(CHEATERS / f"{name}.py"), small, data, tmp_path / "runs", strict=True)
    assert stored.result.audit.verdict == f"warn({WARNED_OF[name]})"
    gc.collect()  # here, where a file that nobody closed is expected


def test_every_cheating_strategy_is_tested() -> None:
    assert {path.stem for path in CHEATERS.glob("*.py")} == set(CAUGHT | WARNED_OF)


@pytest.mark.slow
def test_imports_and_what_they_open_are_no_finding(small: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "imports.py").write_text(
        "import importlib.metadata\nimport clbench\n\n\nclass Imports(clbench.Strategy):\n"
        "    def loss(self, batch):\n        import wave\n\n        importlib.metadata.version('numpy')\n"
        "        return batch.cross_entropy()\n"
    )
    assert run(str(tmp_path / "imports.py"), small, data, tmp_path / "runs").result.audit.verdict == "pass"


@pytest.mark.slow
def test_images_that_an_earlier_run_left_in_builtins_are_its_own(small: str, data: Path, tmp_path: Path) -> None:
    run(str(CHEATERS / "keeps_images_in_builtins.py"), small, data, tmp_path)
    assert run("naive", small, data, tmp_path).result.audit.verdict == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_every_built_in_strategy_passes(name: str, small: str, data: Path, tmp_path: Path) -> None:
    audit = run(name, small, data, tmp_path).result.audit
    assert (audit.verdict, audit.findings) == ("pass", ())


@pytest.mark.slow
def test_strict_ends_with_exit_code_6_and_names_what_was_found(small: str, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clbench", "run", "-S", small, "--threads", "1", "--data", str(data), "--strict"]
    out = ["--out", str(tmp_path / "out")]
    cheater = str(CHEATERS / "balances_predictions_over_the_test_batch.py")
    bad = subprocess.run(
        [*command, *out, "-s", f"naive,{cheater}"], capture_output=True, text=True, check=False, timeout=300
    )
    assert bad.returncode == 6 and "batch mates" in bad.stderr and "naive/" not in bad.stderr.split("Error:")[1]
    assert "violation" in bad.stdout
    good = subprocess.run([*command, *out, "-s", "naive"], capture_output=True, text=True, check=False, timeout=300)
    assert good.returncode == 0
    with pytest.raises(clbench.AuditError, match="batch mates"):
        run(cheater, small, data, tmp_path / "out", strict=True)


@pytest.mark.slow
def test_findings_survive_an_interruption(small: str, data: Path, tmp_path: Path) -> None:
    cheater = str(CHEATERS / "peeks_at_future_data.py")  # which it does in experience 0 only
    command = [sys.executable, "-m", "clbench", "run", "-s", cheater, "-S", small, "--threads", "1"]
    command += ["--data", str(data), "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "experience 0:" in line:
                process.kill()
                break
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = tmp_path.glob("smalldigits/*/*/result.json")
    assert json.loads(path.read_text())["audit"]["verdict"] == "violation(future data)"


@pytest.mark.slow
def test_reads_and_exemplars_are_counted_in_every_experience(small: str, data: Path, tmp_path: Path) -> None:
    stored = run("icarl", small, data, tmp_path, set={"memory": 20}).result.experiences
    assert [entry.exemplars for entry in stored] == [20, 20, 18, 16, 20]
    for entry in stored:
        assert entry.reads.earlier == entry.reads.later == 0 and entry.reads.current > 250
    joint = run("joint", small, data, tmp_path).result.experiences
    assert joint[0].reads.earlier == 0 and joint[1].reads.earlier >= 250


# -- what counts as a sample ------------------------------------------------------------------------------------------

SHAPE = SampleShape(4, 4, 3, Scaling("standardized", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), torch.device("cpu")))
IMAGES = torch.randint(0, 256, (5, 4, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
GREYS = IMAGES // 16 * 16
"""With values that recur, as those of photographs do, which have more pixels."""


@pytest.mark.parametrize(
    ("leaf", "samples"),
    [
        (IMAGES, 5),
        (IMAGES.flatten(), 5),
        (IMAGES.numpy(), 5),
        (IMAGES.numpy().tobytes(), 5),
        (IMAGES.long(), 5),
        (GREYS.short() * 9 - 1000, 5),
        (torch.complex(IMAGES[:3].double(), IMAGES[2:].double()), 5),
        (IMAGES.flatten(1).to_sparse(), 5),
        (IMAGES.float(), 5),
        (IMAGES.float() / 255, 5),
        (SHAPE.scaling(IMAGES), 5),
        (SHAPE.scaling(IMAGES).double().numpy(), 5),
        (SHAPE.scaling(IMAGES).flatten(), 5),
        (SHAPE.scaling(IMAGES).half(), 5),
        (SHAPE.scaling(GREYS).bfloat16(), 5),
        (SHAPE.scaling(GREYS).half().float().flatten(1)[:, torch.randperm(48)], 5),
        (torch.nn.Parameter(3 - 0.1 * SHAPE.scaling(GREYS)), 5),
        (torch.cat([IMAGES, IMAGES]), 5),
        (IMAGES.numpy().tobytes() * 2, 5),
        (torch.randn(80, 48).half(), 0),
        (torch.randn(80, 48).bfloat16(), 0),
        (torch.randn(80, 48).relu() * (torch.rand(48) < 0.2), 0),
        (torch.randn(1, 48).expand(80, 48), 0),
        (torch.randn(80, 48).sign(), 0),
        (torch.randn(80, 48, dtype=torch.complex64), 0),
        (torch.randn(5, 48), 0),
        (torch.zeros(48), 0),
        (torch.arange(7), 0),
        (torch.arange(48) % 10, 0),
        ((torch.arange(48) % 10).float(), 0),
        (torch.rand(48) * 1e-6, 0),
        (np.array(["a"] * 48), 0),
    ],
)
def test_images_are_recognized_in_every_format_and_weights_are_not(leaf: Any, samples: int) -> None:
    assert len(samples_in(leaf, SHAPE)) == samples


@pytest.mark.filterwarnings("ignore::UserWarning")  # of formats that torch is still working on
def test_images_are_recognized_in_unusual_layouts() -> None:
    layouts = (
        IMAGES.flatten(1).to_sparse_csr(),
        torch.quantize_per_tensor(IMAGES.float(), 1.0, 0, torch.quint8),
        torch.nested.nested_tensor(list(SHAPE.scaling(IMAGES))),
    )
    assert [len(samples_in(tensor, SHAPE)) for tensor in layouts] == [5, 5, 5]


def images_in(value: Any) -> int:
    return len(set().union(*(samples_in(leaf, SHAPE) for leaf in leaves(value, set()))))


def test_images_are_found_in_what_holds_them() -> None:
    def annotated() -> None: ...

    annotated.__annotations__["x"] = IMAGES
    records = np.zeros(5, dtype=[("image", "u1", (48,)), ("label", "i8")])
    records["image"] = IMAGES.flatten(1)
    pictures = [Image.fromarray(image.numpy()) for image in IMAGES]
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    variable.set(IMAGES)
    tagged = torch.nn.Parameter(torch.zeros(3))
    tagged.register_hook(lambda _, kept=IMAGES: None)
    with tempfile.SpooledTemporaryFile() as in_memory:
        in_memory.write(IMAGES.numpy().tobytes())
        for holder in (annotated, records, in_memory, pictures, variable, tagged):
            assert images_in(holder) == 5


def test_a_builtin_that_is_now_something_else_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.copyright", (IMAGES, copyright))
    assert images_in(added_to_builtins()) == 5


def test_files_are_told_from_devices_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.npy").touch()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    module = sys.modules[__name__]

    def verdict(path: str) -> str:
        audit = Audit([torch.arange(3)], (tmp_path / "data").resolve())
        with audit.watching_files(module), contextlib.suppress(OSError):
            Path(path).open().close()
        return audit.verdict()

    assert verdict(f"{tmp_path}/link/x.npy") == verdict(f"{tmp_path}/data/../link/x.npy") == "violation(data files)"
    assert verdict("/dev/null") == "pass"
    assert verdict("/dev/shm/images") == "warn(files)"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of formats that torch is still working on
def test_sparse_tensors_are_measured_by_what_is_stored_of_them() -> None:
    kept = [
        torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (100, 100)),
        torch.sparse_csr_tensor(torch.ones(101, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.ones(1)),
    ]
    assert carried_bytes(kept, torch.nn.Linear(2, 2)) == (2 * 8 + 4) + (101 * 8 + 8 + 4)


def test_reads_are_counted_beyond_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.audit.audit._BUFFERED_READS", 5)
    audit = Audit([torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([3])], tmp_path)
    audit.begin_experience(1)
    for rows in ([1, 1], [0, 1, 2], [2, 3], [1]):
        audit.read_training(torch.tensor(rows))
    assert len(audit._pending) < 4
    assert audit.end_experience() == {"current": 4, "earlier": 3, "later": 1}
    assert {finding.what for finding in audit.findings} == {
        "read 2 samples of earlier experiences",
        "read 1 samples of later experiences",
    }
    audit.begin_experience(2)
    assert audit.end_experience() == {"current": 0, "earlier": 0, "later": 0}


def test_exemplars_on_the_strategy_and_elsewhere_are_counted_together(tmp_path: Path) -> None:
    memory = ExemplarMemory(3)
    memory.images, memory.labels = IMAGES[:3], torch.zeros(3, dtype=torch.int64)
    audit = Audit([torch.arange(3)], tmp_path)
    model = torch.nn.Linear(2, 2)
    state = {"exemplars": memory, "more": [{"deep": (IMAGES[3:],)}]}
    assert audit.count_exemplars(state, None, model, allowed=5, shape=SHAPE) == 5 and audit.verdict() == "pass"
    audit.count_exemplars(state, None, model, allowed=4, shape=SHAPE)
    assert audit.verdict() == "violation(memory)"
    assert "keeps 5 training samples" in audit.findings[0].what


def test_copies_of_an_image_are_one_exemplar_in_whatever_form_they_are_kept(tmp_path: Path) -> None:
    memory = ExemplarMemory(6)
    memory.images, memory.labels = IMAGES[[0, 1, 1, 2, 0, 0]], torch.zeros(6, dtype=torch.int64)
    audit = Audit([torch.arange(3)], tmp_path)
    forms = [SHAPE.scaling(IMAGES[:2]), IMAGES[1:3] / 255, IMAGES[0].numpy(), IMAGES[2].permute(2, 0, 1)]
    state = {"exemplars": memory, "forms": forms}
    assert audit.count_exemplars(state, None, torch.nn.Linear(2, 2), allowed=3, shape=SHAPE) == 3
    assert audit.verdict() == "pass"


# -- values of every sample -------------------------------------------------------------------------------------------


def test_tensors_that_grow_by_the_number_of_samples_are_told_from_those_that_grow_with_the_stream() -> None:
    model = torch.nn.Linear(8, 5)
    features = {"all": [torch.ones(30, 8)], "single": [torch.ones(4) for _ in range(30)], "logits": torch.ones(30, 2)}
    more = {
        "all": [torch.ones(30, 8), torch.ones(40, 8)],
        "single": [torch.ones(4) for _ in range(110)],
        "logits": torch.ones(40, 2),
    }
    found = grown_with_samples(kept_rows(features, model), kept_rows(more, model), samples=40)
    assert found == {(8,): 40, (4,): 80}
    importance = {"one": torch.ones(5, 8), "means": {0: torch.ones(8)}, "old": torch.nn.Linear(8, 40)}
    grown = {
        "one": [torch.ones(5, 8) for _ in range(9)],
        "means": {n: torch.ones(8) for n in range(5)},
        "old": torch.nn.Linear(8, 80),
    }
    assert grown_with_samples(kept_rows(importance, model), kept_rows(grown, model), samples=40) == {}
