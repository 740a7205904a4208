"""benchmarks/gpu_day/forward.py: what is timed beside what, in which order, and until when."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from scripts import BENCHMARKS, script
from store_entries import make, plain
from timed_cards import PARENT, by_name, child, entries_with_weights, record

from zoo import ZooError, store
from zoo.cards import Card
from zoo.evaluate import Times

forward, common, card_times = script("gpu_day.forward"), script("gpu_day.common"), script("card_times")
TIMES = Times(100, 0.002, 0.0019, 0.0025, 1.5, 1.4, 1.6)
EVERYTHING = {"device": "cuda: X", "modes": list(forward.MODES), "dtypes": forward.DTYPES, "batches": (32, 1)}


# -- what is timed, and in which order -----------------------------------------------------------------------


def test_every_entry_is_timed_once_and_beside_its_parent() -> None:
    many = [child(f"a-{i}", "a") for i in range(6)]
    cards = by_name(
        plain("a"), *many, child("b", "a-2"), child("c", "absent"), child("d", "a", sample_shape=(6,)), plain("e")
    )
    families = list(forward.families(cards))
    assert sorted(name for _, names in families for name in names) == sorted(cards)  # each exactly once
    for members, names in families:
        assert len(members) <= 5
        assert names <= {card.name for card in members}
        assert len({card.sample_shape for card in members}) == 1
        for card in members:
            if card.name in names and card.parent in cards and card.name != "d":
                assert members[0].name == card.parent
    assert [members[0].name for members, _ in families if len(members) == 1] == ["c", "d", "e"]


def test_a_parent_from_elsewhere_is_timed_beside_its_children_and_not_for_itself() -> None:
    cards, parents = by_name(child("a-1", "a"), child("a-2", "a")), by_name(plain("a"))
    assert list(forward.families(cards, parents)) == [
        ((parents["a"], cards["a-1"], cards["a-2"]), frozenset({"a-1", "a-2"}))
    ]
    assert [names for _, names in forward.families(cards)] == [{"a-1"}, {"a-2"}]


def test_the_cheap_comes_first_and_the_compiled_last() -> None:
    jobs = forward.jobs(by_name(plain("a"), plain("b")), **EVERYTHING)
    assert len(jobs) == 2 * 3 * 2 * 2
    assert [(job.mode, job.dtype) for job in jobs[:4]] == [("eager", "float32")] * 4
    assert {job.cards[0].name for job in jobs[:2]} == {"a", "b"}
    assert {job.mode for job in jobs[:16]} == {"eager", "cuda_graph"}
    assert {job.mode for job in jobs[-8:]} == {"compiled"}


def test_what_neither_a_card_nor_the_results_state_comes_before_what_is_measured_again(tmp_path: Path) -> None:
    stated = {"a": (record(),), "b": (record(device="cuda: Y"),), "c": ()}
    cards = {name: make(tmp_path, name, name.encode(), forward=records) for name, records in stated.items()}
    options = {**EVERYTHING, "modes": ("eager", "compiled"), "dtypes": ("float32",), "batches": (32,)}
    failed = {"name": "c", "sha256": cards["c"].saved.sha256, **vars(record()), "failed": "why"}
    for measured, order in (
        ([], ["b eager", "c eager", "a compiled", "b compiled", "c compiled", "a eager"]),
        ([failed], ["b eager", "a compiled", "b compiled", "c compiled", "a eager", "c eager"]),
    ):
        jobs = forward.jobs(cards, measured=forward.measured_settings(measured), **options)
        assert [f"{job.cards[0].name} {job.mode}" for job in jobs] == order


def test_a_rehearsal_takes_the_cheapest_family() -> None:
    cards = by_name(plain("a", macs=9), child("a-1", "a", macs=5), plain("b", macs=3), child("b-1", "b", macs=2))
    jobs = forward.jobs(cards, scale=0.01, **EVERYTHING)
    assert {card.name for job in jobs for card in job.cards} == {"b", "b-1"}


@pytest.mark.parametrize("seconds", [540, 60_000])
def test_the_plan_holds_every_row_of_the_readme(empty_home: Path, monkeypatch: Any, seconds: int) -> None:
    """In the default time eagerly and as a graph, of both batches and dtypes; in time enough compiled too."""
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_HOME", str(empty_home))
    done = CliRunner().invoke(forward.main, ["--dry-run", f"--seconds={seconds}"], catch_exceptions=False)
    runs = re.findall(r"^ *\d+ s  batch (\d+), (\w+), (\w+): (.*)$", done.output, re.MULTILINE)
    planned: dict[tuple[str, ...], set[str]] = {}
    for *setting, names in runs:
        planned.setdefault(tuple(setting), set()).update(names.split(", "))
    readme = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (?:&emsp;)*`([^`]+)` \|", readme, re.MULTILINE))
    assert len(rows) > 10
    modes = ("eager", "cuda_graph") if seconds == 540 else forward.MODES
    for setting in ((batch, dtype, mode) for batch in ("1", "32") for dtype in forward.DTYPES for mode in modes):
        assert planned[setting] >= rows
    assert ("    left  batch " in done.output) == (seconds == 540)
    assert not list(empty_home.glob("*"))


def test_what_is_timed_alone_and_what_is_not_at_all_is_said(empty_home: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make(one, "net-a.shapes", parent="net.shapes", **PARENT)
    make(one, "net-b.shapes", parent="net.shapes", **PARENT, sample_shape=(6,))
    make(one, "net-c.shapes", parent="gone.shapes", **PARENT)
    make(one, "net-d.shapes", parent="net.shapes", **PARENT, recipe={"command": "x", "parent_sha256": "0" * 64})
    make(two, "net-a.shapes", b"another one")
    shutil.copy(one / "net-b.shapes.json", two)
    make(store.cache_dir(), "net.shapes")
    cards, sentences = card_times.entries([one, two, tmp_path / "three"])
    assert list(cards) == ["net-a.shapes", "net-b.shapes", "net-c.shapes", "net-d.shapes"]
    assert sentences == [f"{two / 'net-a.shapes.json'} is not timed: {one} has another net-a.shapes"]
    parents, sentences = forward.parents_of(cards)
    assert list(parents) == ["net.shapes"]
    assert sentences == [
        "net-b.shapes is timed alone: its parent net.shapes takes other samples",
        "net-c.shapes is timed alone: its parent gone.shapes is neither here nor on a mirror",
        "net-d.shapes is timed alone: its parent net.shapes is now another checkpoint",
    ]


def test_a_parent_comes_from_a_mirror(empty_home: Path, mirror: Path, tmp_path: Path, monkeypatch: Any) -> None:
    make(tmp_path / "folder", "net-small.shapes", parent="net.shapes", **PARENT)
    cards, _ = card_times.entries([tmp_path / "folder"])
    assert forward.parents_of(cards)[0] == {}
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    parents, sentences = forward.parents_of(cards)
    assert (list(parents), sentences) == (["net.shapes"], [])  # what else the mirror has is not timed


def test_a_network_without_its_checkpoint_has_random_weights(empty_home: Path, tmp_path: Path) -> None:
    first, second = entries_with_weights(tmp_path / "one")
    shutil.rmtree(store.user_dir(), ignore_errors=True)
    folders, cpu = [tmp_path / "two", tmp_path / "one"], torch.device("cpu")
    trained, again = (forward.network(first, folders, cpu) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))
    assert not trained.training
    (tmp_path / "one" / second.saved.name).unlink()
    random = forward.network(second, folders, cpu)
    assert random.widths == second.widths
    file = tmp_path / "one" / first.saved.name
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(ZooError, match="damaged"):
        forward.network(first, folders, cpu)


# -- until when ----------------------------------------------------------------------------------------------


class Gpu:
    """Timings without a GPU: `seconds` is what one network takes in each mode, `fails` are modes that break."""

    def __init__(self, tmp_path: Path) -> None:
        self.now, self.ran, self.lines = 0.0, [], tmp_path / "forward.jsonl"
        self.seconds: dict[str, float] = {}
        self.fails: dict[str, str] = {}

    def measure(self, job: Any, **options: object) -> dict[str, Times]:
        self.now += self.seconds.get(job.mode, 1.0) * len(job.cards)
        if job.mode in self.fails:
            raise RuntimeError(self.fails[job.mode])
        self.ran.append(job)
        return {card.name: TIMES for card in job.cards}

    def run(self, seconds: float, *cards: Card, **options: Any) -> list[dict[str, Any]]:
        """Run all jobs of the cards and return the lines of results."""
        forward.run(
            forward.jobs(by_name(*cards), **{**EVERYTHING, **options}),
            device=torch.device("cuda"), budget=forward.Budget(seconds, lambda: self.now), folders=[],
            record=common.Recorder(self.lines, seconds), repeats=9,
        )  # fmt: skip
        return common.read_lines(self.lines)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    gpu = Gpu(tmp_path)
    monkeypatch.setattr(forward, "measure", gpu.measure)
    monkeypatch.setattr(forward, "device_name", lambda device: "NVIDIA X")
    monkeypatch.setattr("zoo.workflows.measurement.device_name", lambda device: "NVIDIA X")
    return gpu


def modes(lines: list[dict[str, Any]], name: str) -> set[str]:
    return {line["mode"] for line in lines if line["name"] == name and "failed" not in line}


def test_every_result_is_a_line_as_soon_as_it_is_there(gpu: Gpu) -> None:
    lines = gpu.run(1000, plain("a"), child("a-1", "a"))
    assert len(lines) == 2 * 12
    assert {(line["name"], line["parent"], line["ratio"]) for line in lines} == {("a", None, None), ("a-1", "a", 1.5)}
    assert {(line["device"], line["median_ms"], line["p95_ms"]) for line in lines} == {("cuda: NVIDIA X", 2.0, 2.5)}
    assert "a-1" in lines[1]["text"]
    assert "2.000 ms (95 %: 2.500)  1.50x (1.40 to 1.60)" in forward.table(lines)


def test_it_ends_in_time_whatever_a_compiler_takes(gpu: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.seconds = {"compiled": 100.0}
    lines = gpu.run(540, plain("a"), child("a-1", "a"), plain("b"))
    assert gpu.now <= 540
    assert modes(lines, "b") == set(forward.MODES)
    done = [job.mode for job in gpu.ran]
    assert done.count("eager") == done.count("cuda_graph") == 2 * 2 * 2
    assert 1 <= done.count("compiled") < 8
    assert capsys.readouterr().out.count("left for the next run: batch") == 8 - done.count("compiled")


def test_what_was_expected_to_take_too_long_is_run_once_its_like_was_quick(gpu: Gpu) -> None:
    cards = (plain("a"), *(child(f"a-{i}", "a") for i in range(4)), plain("b"))
    gpu.seconds = {"compiled": 10.0}
    gpu.run(100, *cards, modes=["compiled"])  # 150 s are expected of a and its children, it takes 50
    assert [(job.cards[0].name, job.batch, job.dtype) for job in gpu.ran[:2]] == [
        ("b", 32, "float32"), ("a", 32, "float32"),
    ]  # fmt: skip


def test_a_short_time_is_for_the_cheap_ones(gpu: Gpu) -> None:
    lines = gpu.run(6, plain("a"))
    assert [(line["batch"], line["mode"]) for line in lines[:2]] == [(32, "eager"), (1, "eager")]
    assert "compiled" not in modes(lines, "a")


def test_a_mode_that_fails_is_named_and_the_others_go_on(gpu: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.fails = {"cuda_graph": "the compiler says no\nand a hundred lines more"}
    lines = gpu.run(6000, plain("a"), child("a-1", "a"))
    assert modes(lines, "a") == {"eager", "compiled"}
    failed = [line for line in lines if "failed" in line]
    assert {(line["name"], line["mode"], line["failed"]) for line in failed} == {
        (name, "cuda_graph", "the compiler says no") for name in ("a", "a-1")
    }
    output = capsys.readouterr().out
    assert "failed: batch 32, float32, cuda_graph: a, a-1: the compiler says no\n" in output
    assert "hundred" not in output
    assert "left" not in output


def test_a_lost_gpu_ends_the_process_and_the_next_one_goes_on_behind_what_broke_it(gpu: Gpu) -> None:
    gpu.fails = {"cuda_graph": "CUDA error: an illegal memory access was encountered"}
    with pytest.raises(SystemExit) as stopped:
        gpu.run(6000, plain("a"))
    assert stopped.value.code == forward.BROKEN
    lines = common.read_lines(gpu.lines)
    assert [line["mode"] for line in lines] == ["eager"] * 4 + ["cuda_graph"]
    measured = {(lines[0]["sha256"], *setting[1:]) for setting in forward.measured_settings(lines)}
    cards = by_name(plain("a"))
    jobs = forward.jobs(cards, measured=measured, **{**EVERYTHING, "device": "cuda: NVIDIA X"})
    assert [job.mode for job in jobs[:3]] == ["cuda_graph"] * 3
    assert str(jobs[-1]).startswith("batch 32, float32, cuda_graph")


def test_what_is_left_is_named_when_a_signal_ends_it(
    gpu: Gpu, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: Any, **options: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(forward, "measure", stop)
    with pytest.raises(SystemExit):
        gpu.run(6000, plain("a"), plain("b"))
    assert capsys.readouterr().out.count("left for the next run: batch") == 2 * 12 - 1


def stuck(measure: Callable[..., Any]) -> Callable[..., Any]:
    def instead(job: Any, **options: Any) -> Any:
        while job.mode == "compiled" and job.cards[0].name == "b":
            time.sleep(0.01)
        return measure(job, **options)

    return instead


def test_a_compiler_that_never_ends_is_no_more_than_one_setting(
    gpu: Gpu, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "measure", stuck(gpu.measure))
    monkeypatch.setattr(forward, "PATIENCE", 0.001)
    monkeypatch.setattr(forward, "LEAST", 0.2)
    handler = signal.getsignal(signal.SIGALRM)
    lines = gpu.run(6000, plain("a"), plain("b"))
    assert modes(lines, "a") == set(forward.MODES)
    assert modes(lines, "b") == {"eager", "cuda_graph"}
    assert capsys.readouterr().out.count("compiled: b: not done after 0 s") == 4
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_last_compiler_that_never_ends_is_given_up_before_the_step_is_stopped() -> None:
    now = 400
    job = forward.Job("compiled", "float32", 32, (plain("a"),) * 4, frozenset({"a"}))  # 4 x 30 s are expected
    budget = forward.Budget(540, lambda: now)
    assert budget.holds(job)
    assert budget.limit(job) == 140
    budget.note(job, 40)
    assert budget.limit(job) == 3 * 40


# -- on a CPU ------------------------------------------------------------------------------------------------


def test_of_a_processor_only_speed_ups_are_measured_and_no_card_is_touched(empty_home: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "cards", tmp_path / "out"
    entries_with_weights(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    options = [str(out), "--cards", str(folder), "--device", "cpu", "--repeats", "5"]
    few = ["--modes", "eager,cuda_graph", "--batches", "8", "--dtypes", "float32"]
    done = CliRunner().invoke(forward.main, [*options, *few], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    line, failed = map(json.loads, (out / "forward.jsonl").read_text().splitlines())
    assert (line["name"], line["device"], line["batch"], line["median_ms"]) == ("net-small.shapes", "cpu", 8, None)
    assert 0.05 < line["ratio_low"] <= line["ratio"] <= line["ratio_high"] < 20
    assert (failed["name"], failed["mode"]) == ("net-small.shapes", "cuda_graph")
    assert failed["failed"].startswith("CUDA graphs need a CUDA GPU")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(empty_home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(forward.main, [str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.output == "Error: there is no CUDA GPU here: nothing was measured, and nothing written\n"
    assert not (tmp_path / "out").exists()
