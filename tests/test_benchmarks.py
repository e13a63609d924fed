"""What the benchmarks measure with: the numbers of known cases come out."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from after_torch import AfterTorch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of benchmarks/, a package of the checkout that is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.mark.slow
def test_the_tables_for_readers_are_those_of_the_packs(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = benchmark("reference").main(check=True)
    assert (code, capsys.readouterr().out) == (0, "")


def test_a_table_for_readers_is_replaced_line_by_line_and_nothing_else(benchmark: Any) -> None:
    page = "Text\n\n| Split MNIST, 4 seeds | a |\n| --- | --- |\n| old | 1 |\n\n| Split MNIST | other |\n"
    lines = ["| Split MNIST, 5 seeds | a |", "| --- | --- |", "| new | 2 |", "| naive | 3 |"]
    made = benchmark("reference").with_tables(page, {"Split MNIST": lines})
    assert made == "Text\n\n" + "\n".join(lines) + "\n\n| Split MNIST | other |\n"


def test_a_number_that_a_reader_sees_and_no_pack_has_is_found(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = benchmark("reference")
    pack = reference.RESULTS / "splitcifar10.zip"
    for path in (pack, pack.with_suffix(".csv"), *reference.PAGES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    page = tmp_path / "docs/results.md"
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "SHOWN", {"splitcifar10": "Split CIFAR-10"})
    (tmp_path / reference.REPORT).mkdir(parents=True)
    (tmp_path / reference.REPORT / "data.csv").write_bytes((tmp_path / pack.with_suffix(".csv")).read_bytes())
    assert reference.main(check=True) == 0
    page.write_text(page.read_text().replace("69.8 ±2.0", "79.8 ±2.0"))
    assert reference.main(check=True) == 1
    assert capsys.readouterr().out.startswith("docs/results.md is not what the packs")


def test_few_files_of_results_and_reports_are_tracked_and_the_page_links_to_no_others() -> None:
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "results", "reports"]
        tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert 0 < len(tracked) < 60
    page = ROOT / "reports" / "reference" / "index.html"
    links = set(re.findall(r'href="([^"#]+)"', page.read_text(encoding="utf-8")))
    files = {link for link in links if not link.startswith("data:")}
    assert files == {"data.csv"} and all((page.parent / file).is_file() for file in files)


def test_a_ratio_is_the_median_over_the_pairs_and_not_that_of_the_medians(benchmark: Any) -> None:
    measuring = benchmark("measuring")
    row = measuring.ours_over_theirs("a", "b", 1.1, [(1.0, 2.0), (9.0, 3.0), (4.0, 4.0)])
    assert (row.ratio, row.ours, row.theirs, row.met) == (1.0, 4.0, 3.0, True)
    row = measuring.speed("a", "b", 6.0, [(1.0, 5.0), (2.0, 14.0), (1.0, 5.5)])
    assert (row.ratio, row.met) == (5.5, False)


def test_pairs_take_turns_in_who_comes_first(benchmark: Any) -> None:
    calls: list[str] = []
    measured = benchmark("measuring").alternating(2, lambda: calls.append("ours"), lambda: calls.append("theirs"))
    assert calls == ["ours", "theirs", "theirs", "ours"] and len(measured) == 2


def test_a_line_through_points_on_a_line_is_that_line(benchmark: Any) -> None:
    line = benchmark("growth.linear_growth").Line.through([5, 10, 20, 50], [7 + 0.5 * x for x in (5, 10, 20, 50)])
    assert (line.constant, line.slope, line.r2) == pytest.approx((7, 0.5, 1))


def test_the_memory_that_a_process_allocates_is_seen(benchmark: Any) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read in /proc, which is Linux's")
    code = "import time; held = bytearray(b'x') * 300_000_000; time.sleep(0.3)"
    watched = benchmark("growth.watched_process").watch([sys.executable, "-c", code])
    assert 300e6 < watched.anonymous_bytes < 400e6


@pytest.mark.slow
def test_the_process_without_data_says_its_peak_memory(benchmark: Any) -> None:
    code = benchmark("speed.costs").WITHOUT_DATA
    done = subprocess.run([sys.executable, "-c", code, "1"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100e6  # PyTorch alone takes more


def test_a_failing_command_is_no_measurement(benchmark: Any) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        benchmark("growth.watched_process").watch([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_synthetic_data_are_a_dataset_with_every_class_in_both_parts(benchmark: Any, tmp_path: Path) -> None:
    synthetic = benchmark("growth.synthetic")
    asked = synthetic.Synthetic(train_size=40, test_size=20, classes=10, experiences=5)
    with synthetic.prepared(asked, tmp_path) as (folder, scenario):
        from clbench.data.datasets import open_dataset, verify

        data = open_dataset(synthetic.NAME, folder)
        assert verify(folder) == [(synthetic.NAME, None)] and scenario.exists()
        assert data.x_train.shape == (40, 28, 28, 1)
        assert np.bincount(data.y_train).tolist() == [4] * 10 and np.bincount(data.y_test).tolist() == [2] * 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["naive", "l2", "lwf", "frozen"])
def test_a_bare_loop_learns_what_clbench_learns(benchmark: Any, data: Path, tmp_path: Path, strategy: str) -> None:
    """The bare loops are worth comparing with only if they do the same: final accuracies lie close together."""
    import clbench
    from clbench.data.datasets import open_dataset

    torch.manual_seed(0)
    options: dict[str, Any] = {"out": tmp_path, "data": data, "device": "cpu", "threads": 1, "epochs": 10}
    (run,) = clbench.run(strategy, "splitdigits", **options)
    bare = benchmark("speed.bare_loops")
    digits, spec = open_dataset("digits", data), run.spec
    learner, old = bare.BARE[strategy](spec.recipe.config, digits.info), 0
    position = torch.from_numpy(np.argsort(spec.scenario.class_order))
    labels, test_labels = position[torch.from_numpy(digits.y_train)], position[torch.from_numpy(digits.y_test)]
    for new in spec.scenario.classes_per_experience:
        images, y = bare.chosen(digits.x_train, labels, old, old + new)
        learner.learn(bare.Task(images, y, old, new))
        old += new
    ours = run.metric("final_accuracy")
    assert learner.accuracy(*bare.chosen(digits.x_test, test_labels, 0, old)) == pytest.approx(ours, abs=0.12)


@pytest.mark.slow
def test_growth_measures_a_point_from_end_to_end(benchmark: Any, tmp_path: Path) -> None:
    growth, synthetic = benchmark("growth.__main__"), benchmark("growth.synthetic")
    under = growth.Conditions(threads=1, quick=True, place=tmp_path, say=lambda text: None)
    asked = synthetic.Synthetic(train_size=200, test_size=40, classes=4, experiences=2)
    with synthetic.prepared(asked, tmp_path) as made:
        point = growth.measure(under, "experiences", 2, "ewc", asked, made)
    assert point.stored_bytes > 0 and point.seconds > 0
    assert [set(phases) for phases in point.phases] == [{"training", "evaluation", "bookkeeping"}] * 2
    described = growth.described(1, [point], [])
    assert json.loads(json.dumps(described))["points"][0]["n"] == 2


def test_the_share_of_the_peak_is_that_of_the_counted_operations(benchmark: Any) -> None:
    device = benchmark("device.__main__")
    peak = device.Device("cpu", {"float32": 1e12, "bfloat16": 1e12}, 1e10)
    (step,) = device.measure(peak, "mlp", 4, "float32", 1)
    # 3072x400, 400x400 and 400x100 forward and twice backward, but for the gradient of the images.
    forward = 2 * 4 * (3072 * 400 + 400 * 400 + 400 * 100)
    assert step.flops == 3 * forward - 2 * 4 * 3072 * 400
    assert step.share_of_peak == pytest.approx(step.flops / step.seconds / 1e12)


@pytest.mark.parametrize("name", ["speed", "growth", "device"])
def test_a_benchmark_says_what_it_does(name: str, after_torch: AfterTorch) -> None:
    said = after_torch(f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["benchmarks.{name}", "--help"]
try:
    runpy.run_module("benchmarks.{name}", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    assert not ended.code
""")
    assert "--json" in said


def test_a_peers_function_that_differs_from_our_dialect_is_found(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = importlib.import_module("benchmarks.peers.__main__")
    repository = tmp_path / "PyCIL"
    (repository / "models").mkdir(parents=True)
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    body = "    p, q = (pred / T).log_softmax(1), (soft / T).softmax(1)\n    return -(p * q).sum(1).mean()"
    file = repository / "models" / "lwf.py"
    file.write_text(f"import a_package_that_is_not_installed\ndef _KD_loss(pred, soft, T):\n{body}\n")
    assert peers.main(tmp_path) == 0
    file.write_text(file.read_text().replace(".mean()", ".mean() * T * T"))
    assert peers.main(tmp_path) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_auroc_is_the_share_of_pairs_in_order_and_fpr95_what_unknown_images_reach(benchmark: Any) -> None:
    unknown = benchmark("unknown.__main__")
    known, others = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0])
    assert unknown.auroc(known, others) == 4.5 / 6  # 1 > 0, 2 > 0, 3 > 0, 3 > 2, and half of 2 = 2
    assert unknown.fpr95(known, others) == 1 / 2  # of the three known ones all reach 1
    assert unknown.fpr95(np.arange(1.0, 41.0), np.array([2.0, 3.0])) == 1 / 2  # 38 of the 40 reach 3


def test_what_is_compared_of_scores_is_as_in_the_papers(benchmark: Any) -> None:
    values = benchmark("unknown.__main__").VALUES
    scores = torch.log(torch.tensor([[6.0, 3.0, 1.0]], dtype=torch.float64))
    found = {name: value(scores).item() for name, value in values.items()}
    assert found == pytest.approx({"probability": 0.6, "score": np.log(6), "energy": np.log(10), "margin": np.log(2)})


def test_cases_of_adding_classes_differ_in_the_new_ones_and_never_have_one_as_old_too(benchmark: Any) -> None:
    one_class = benchmark("one_class")
    names = [f"c{i:02}" for i in range(50)]
    for new in (1, 10):
        cases = [one_class.choose(names, case, new) for case in range(50 // new)]
        assert sorted(name for case in cases for name in case[20:]) == names
        assert all(len(set(case)) == 20 + new for case in cases)


def test_half_of_the_folders_are_left_for_other_measurements(benchmark: Any, tmp_path: Path) -> None:
    for name in ("BACKGROUND_Google", "Faces", "Faces_easy", "ant", "bee", "cat"):
        (tmp_path / name).mkdir()
    assert benchmark("one_class").class_names(tmp_path) == ["ant", "cat"]


def test_a_new_class_gets_as_many_training_images_as_asked_for_and_none_that_tests(
    benchmark: Any, tmp_path: Path
) -> None:
    one_class = benchmark("one_class")
    classes = [f"c{i:02}" for i in range(21)]
    for label, name in enumerate(classes):
        (tmp_path / name).mkdir()
        for i in range(8):
            PIL.Image.new("RGB", (150, 130), (label * 10, i * 30, 0)).save(tmp_path / name / f"{i}.jpg", quality=100)
    one_class.build_dataset(tmp_path, classes, 3, 0, tmp_path / "case.npz")
    with np.load(tmp_path / "case.npz") as case:
        assert np.bincount(case["y_train"]).tolist() == [6] * 20 + [3]
        assert np.bincount(case["y_test"]).tolist() == [2] * 21
        assert case["x_train"].shape[1:] == (128, 128, 3)
        seen = {(int(y), image[64, 64].tobytes()) for y, image in zip(case["y_train"], case["x_train"], strict=True)}
        assert not seen & {
            (int(y), image[64, 64].tobytes()) for y, image in zip(case["y_test"], case["x_test"], strict=True)
        }


def test_the_accuracies_of_a_case_are_means_over_classes(benchmark: Any) -> None:
    class Run:
        def metric(self, name: str) -> list[list[float]]:
            assert name == "per_class_accuracy"
            return [[1.0] * 10 + [0.5] * 10, [0.5] * 20 + [1.0, 0.2]]

    result = benchmark("one_class").judged(Run(), "naive", "tiny", 3)
    assert (result.before, result.old, result.new, result.mean) == pytest.approx((75, 50, 60, 55))


def test_the_scenario_of_a_case_is_one_that_clbench_loads(benchmark: Any, tmp_path: Path) -> None:
    from clbench.plugins.discovery import select
    from clbench.plugins.loading import load

    file = tmp_path / "case.py"
    file.write_text(benchmark("one_class").scenario_source("images", 10, "head", "sgd"), encoding="utf-8")
    scenario = load(select("scenario", str(file)))
    assert (scenario.dataset, scenario.split, scenario.class_order) == ("images", "20+10", "natural")
    tiny = scenario.recipes["tiny"]
    assert (tiny.lr, tiny.epochs, tiny.at(0).lr, tiny.at(0).epochs) == pytest.approx((1e-4, 25, 0.01, 30))


def test_the_tables_of_extensions_are_those_that_were_measured(benchmark: Any) -> None:
    tables = benchmark("extend.table")
    rows = json.loads((ROOT / "benchmarks" / "measured" / "extend.json").read_text())["rows"]
    page, front = ((ROOT / name).read_text() for name in ("docs/extend-results.md", "README.md"))
    for case in {row["case"] for row in rows}:
        assert "\n".join(tables.table([row for row in rows if row["case"] == case])) in page
    shown = front.split("<!-- overview -->")[1].split("<!-- end of overview -->")[0].strip().splitlines()
    assert len(shown) > 5 and set(shown) <= set(tables.overview(rows))


def test_a_table_of_extensions_has_means_intervals_and_paired_differences(benchmark: Any) -> None:
    def row(strategy: str, seed: int, old: float, new: float) -> dict[str, Any]:
        return {
            "case": "c",
            "strategy": strategy,
            "trains": "head",
            "seed": seed,
            "before": 0.9,
            "old": old,
            "new": new,
        }

    rows = [row("naive", 0, 0.1, 1.0), row("naive", 1, 0.3, 1.0), row("ncm", 0, 0.5, 0.8), row("ncm", 1, 0.7, 0.8)]
    lines = benchmark("extend.table").table(rows)
    # Two seeds: t = 12.706, so that ±12.706·s/√2 with s = √2·0.1 is ±127.1 points; the paired differences are both 40.
    assert lines[2] == "| ncm | head | 90.0 ±0.0 | 60.0 ±127.1 | 80.0 ±0.0 | 70.0 ±63.5 | +40.0 ±0.0 |"
    assert lines[3] == "| naive | head | 90.0 ±0.0 | 20.0 ±127.1 | 100.0 ±0.0 | 60.0 ±63.5 | – |"
