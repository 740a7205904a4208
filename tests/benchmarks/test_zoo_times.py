"""benchmarks/zoo_times.py: until when it times, and what becomes of the cards."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from scripts import BENCHMARKS, script
from store_entries import make, plain
from timed_cards import PARENT, by_name, child

import zoo
from zoo import ZooError
from zoo.cards import Card
from zoo.evaluate import Times
from zoo.store import mirrors, store
from zoo.store import publishing as publish

zoo_times = script("zoo_times")
card_times = sys.modules["card_times"]  # as it imports it
TIMES = Times(100, 0.002, 0.0019, 0.0025, 1.5, 1.4, 1.6)
SHIPPED = ("dgcnn-pruned-0.5x.shapes", "dgcnn.shapes")


# -- until when ----------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine that says it has a GPU; `seconds` is what one network takes in each mode, `fails` breaks."""
    state: dict[str, Any] = {"clock": Clock(), "seconds": {}, "fails": set(), "ran": []}

    def measure(job: Any, *, device: torch.device, path: Any, repeats: int) -> dict[str, Times]:
        for card in job.cards:
            path(card)
        state["clock"].now += state["seconds"].get(job.mode, 1.0) * len(job.cards)
        if job.mode in state["fails"]:
            raise RuntimeError("the compiler says no\nand a hundred lines more")
        state["ran"].append(job)
        first = replace(TIMES, speedup=1.0, speedup_low=1.0, speedup_high=1.0)
        return {card.name: first if card is job.cards[0] else TIMES for card in job.cards}

    monkeypatch.setattr(zoo_times, "measure", measure)
    monkeypatch.setattr(zoo_times, "device_name", lambda device: "NVIDIA X")
    monkeypatch.setattr("zoo.workflows.measurement.device_name", lambda device: "NVIDIA X")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(zoo_times.checkpoint, "device_of", torch.device)
    return state


def run(gpu: dict[str, Any], minutes: float, cards: dict[str, Card]) -> Any:
    jobs = zoo_times.jobs(cards, device="X", modes=list(zoo_times.MODES), dtypes=zoo_times.DTYPES, batches=(32, 1))
    budget = zoo_times.Budget(60 * minutes, gpu["clock"])
    here = {"device": torch.device("cuda"), "path": lambda card: Path(), "repeats": 9}
    nothing = {"keep": lambda *given: None, "fail": lambda *given: None}
    return zoo_times.run(jobs, budget=budget, **nothing, **here)


def test_it_ends_in_time_whatever_a_compiler_takes(gpu: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    gpu["seconds"] = {"compiled": 100.0}
    results = run(gpu, 9, by_name(plain("a"), child("a-1", "a"), plain("b")))
    assert gpu["clock"].now <= 540
    assert {r.mode for r in results["b"]} == set(zoo_times.MODES)
    done = [job.mode for job in gpu["ran"]]
    assert done.count("eager") == done.count("cuda_graph") == 2 * 2 * 2
    assert 1 <= done.count("compiled") < 8
    said = capsys.readouterr().out
    assert said.count("left for the next run: batch") == 8 - done.count("compiled")


def test_what_was_thought_too_long_is_run_once_its_like_was_quick(gpu: dict[str, Any]) -> None:
    cards = by_name(plain("a"), *(child(f"a-{i}", "a") for i in range(4)), plain("b"))
    jobs = zoo_times.jobs(cards, device="X", modes=["compiled"], dtypes=("float32",), batches=(32,))
    assert [len(job.cards) for job in jobs] == [5, 1]
    gpu["seconds"] = {"compiled": 10.0}
    assert {r.mode for records in run(gpu, 4.2, cards).values() for r in records} == set(zoo_times.MODES)
    done = [(job.cards[0].name, job.batch, job.dtype) for job in gpu["ran"] if job.mode == "compiled"]
    assert done[:2] == [("b", 32, "float32"), ("a", 32, "float32")]  # 300 s were reckoned with, it took 50


def test_a_short_time_is_for_the_cheap_ones(gpu: dict[str, Any]) -> None:
    results = run(gpu, 0.1, by_name(plain("a")))
    assert [(r.batch, r.dtype, r.mode) for r in results["a"]][:2] == [(32, "float32", "eager"), (1, "float32", "eager")]
    assert all(r.mode != "compiled" for r in results["a"])


def test_a_mode_that_fails_is_named_and_the_others_go_on(
    gpu: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gpu["fails"] = {"cuda_graph"}
    results = run(gpu, 100, by_name(plain("a"), child("a-1", "a")))
    assert {r.mode for r in results["a"]} == {"eager", "compiled"}
    said = capsys.readouterr().out
    assert "failed: batch 32, float32, cuda_graph: a, a-1: the compiler says no\n" in said
    assert "hundred" not in said
    assert "left" not in said


def test_what_is_left_is_named_when_a_signal_ends_it(
    gpu: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = by_name(plain("a"), plain("b"))

    def stop(job: Any, **given: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(zoo_times, "measure", stop)
    with pytest.raises(SystemExit):
        run(gpu, 100, cards)
    assert capsys.readouterr().out.count("left for the next run: batch") == 2 * 12


def test_a_compiler_that_never_ends_is_no_more_than_one_setting(
    gpu: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = zoo_times.measure

    def stuck(job: Any, **given: Any) -> Any:
        while job.mode == "compiled" and job.cards[0].name == "b":
            time.sleep(0.01)
        return quick(job, **given)

    monkeypatch.setattr(zoo_times, "measure", stuck)
    monkeypatch.setattr(zoo_times, "PATIENCE", 0.001)
    monkeypatch.setattr(zoo_times, "LEAST", 0.2)
    handler = signal.getsignal(signal.SIGALRM)
    results = run(gpu, 100, by_name(plain("a"), plain("b")))
    assert {record.mode for record in results["a"]} == set(zoo_times.MODES)
    assert {record.mode for record in results["b"]} == {"eager", "cuda_graph"}
    assert capsys.readouterr().out.count("compiled: b: not done after 0 s") == 4
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_last_compiler_that_never_ends_leaves_time_for_the_table(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = zoo_times.Job("compiled", "float32", 32, (plain("a"),) * 5, frozenset({"a"}))  # 5 x 60 s are reckoned with
    budget = zoo_times.Budget(540, gpu["clock"])
    monkeypatch.setattr(gpu["clock"], "now", 200)
    assert budget.holds(job)
    assert 300 < budget.limit(job) <= 590 - 200 - 30, "gpu.sh ends everything after 590 s"
    budget.note(job, 50)
    assert budget.limit(job) == 3 * 50


# -- what becomes of the cards -------------------------------------------------------------------------------


def test_the_mirror_of_the_repository_stays_one(
    gpu: dict[str, Any], tmp_path: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times reach the cards of a copy of mirror/; what is served and published from it is whole."""
    folder = tmp_path / "repository" / "mirror"
    folder.mkdir(parents=True)
    for path in (BENCHMARKS.parent / "mirror").glob("[!.]*"):
        shutil.copy(path, folder)
    monkeypatch.setattr(card_times, "ROOT", folder.parent)
    before, index = card_times.entries([folder])[0], (folder / "index.json").read_bytes()
    make(store.user_dir(), "net.shapes")
    done = CliRunner().invoke(zoo_times.main, [], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "failed" not in done.output
    assert len(store.read_card(store.user_dir() / "net.shapes.json").forward) == 12
    assert (folder / "index.json").read_bytes() == index
    for name, card in before.items():
        now = zoo.info(name, mirror=folder)
        if (folder / card.saved.name).exists():
            assert zoo.download(name, mirror=folder).stat().st_size == card.saved.size
            assert zoo.info(name) == now
        assert [r for r in now.forward if r.device == "cpu"] == list(card.forward)
        assert len([r for r in now.forward if r.median_ms == 2.0]) == 12
        assert replace(now, forward=card.forward) == card
        assert (folder / f"{name}.json").read_text(encoding="utf-8") == now.to_json()
    assert publish.publish(folder, ["net.shapes"]).new == ["net.shapes"]
    assert mirrors.index(str(folder)) == sorted([*before, "net.shapes"])
    again = CliRunner().invoke(zoo_times.main, ["--dry-run"], catch_exceptions=False)
    assert again.exit_code == 0, again.output


def copies(tmp_path: Path, monkeypatch: Any) -> Path:
    """The package as if it shipped these two alone, from a copy."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for path in store.package_dir().iterdir():
        if path.name.startswith(SHIPPED):
            shutil.copy(path, folder)
    monkeypatch.setattr(store, "package_dir", lambda: folder)
    return folder


def test_on_a_gpu_all_settings_reach_the_cards(gpu: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    folder, out = copies(tmp_path, monkeypatch), tmp_path / "out" / "times.jsonl"
    before = {name: store.read_card(folder / f"{name}.json") for name in SHIPPED}
    for turn in (1, 2):
        done = CliRunner().invoke(zoo_times.main, ["--cards", str(folder), "--out", str(out)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(lines) == turn * 2 * 12
    for name in SHIPPED:
        card = store.read_card(folder / f"{name}.json")
        assert replace(card, forward=before[name].forward) == before[name]
        assert card.forward[: len(before[name].forward)] == before[name].forward
        new = card.forward[len(before[name].forward) :]
        assert len(new) == len({(r.batch, r.dtype, r.mode) for r in new}) == 12
        assert {(r.device, r.median_ms, r.p95_ms) for r in new} == {("cuda: NVIDIA X", 2.0, 2.5)}
        assert {r.ratio for r in new} == ({1.5} if card.parent else {None})
    assert {(line["name"], line["parent"]) for line in lines} == {(SHIPPED[1], None), (SHIPPED[0], SHIPPED[1])}
    assert "2.000 ms (95 %: 2.500)  1.50x (1.40 to 1.60)" in done.output


def test_a_card_that_cannot_be_written_is_named(gpu: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    folder = copies(tmp_path, monkeypatch)

    def full(*given: object) -> None:
        raise ZooError("cannot write: No space left on device; nothing was written")

    monkeypatch.setattr(card_times, "new_file", full)
    done = CliRunner().invoke(zoo_times.main, ["--cards", str(folder)], catch_exceptions=False)
    assert done.output.count("not written: cannot write: No space left on device") == 24
    assert store.read_card(folder / "dgcnn.shapes.json") == store.read_card(store.package_dir() / "dgcnn.shapes.json")


# -- a processor ---------------------------------------------------------------------------------------------


def test_the_plan_alone_measures_and_writes_nothing(gpu: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    folder, out = copies(tmp_path, monkeypatch), tmp_path / "times.jsonl"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    options = ["--cards", str(folder), "--out", str(out), "--dry-run", "--minutes", "1"]
    done = CliRunner().invoke(zoo_times.main, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert gpu["ran"] == []
    both = "dgcnn.shapes, dgcnn-pruned-0.5x.shapes"
    assert done.output.splitlines()[1] == f"     4 s  batch 32, float32, eager: {both}"
    assert done.output.splitlines()[-1] == f"    left  batch 1, bfloat16, compiled: {both}"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not out.exists()


def test_of_a_processor_only_speed_ups_are_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    folder, out = copies(tmp_path, monkeypatch), tmp_path / "times.jsonl"
    name = "dgcnn-pruned-0.5x.shapes"
    old, parent = store.read_card(folder / f"{name}.json"), (folder / "dgcnn.shapes.json").read_bytes()
    options = ["--cards", str(folder), "--out", str(out), "--device", "cpu", "--repeats", "3"]
    few = ["--modes", "eager,cuda_graph", "--batches", "8", "--dtypes", "float32"]
    done = CliRunner().invoke(zoo_times.main, [*options, *few], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "failed: batch 8, float32, cuda_graph: " in done.output
    assert "CUDA graphs need a CUDA GPU" in done.output
    last = done.output.splitlines()[-1]
    assert last.startswith("dgcnn-pruned-0.5x.shapes  8      float32  ")
    assert 0.5 < float(last.split()[3].removesuffix("x")) < 10
    assert "ms" not in last
    card = store.read_card(folder / f"{name}.json")
    assert replace(card, forward=old.forward) == old
    (record,) = card.forward
    assert (record.device, record.batch, record.median_ms, record.p95_ms) == ("cpu", 8, None, None)
    assert 0.5 < record.ratio_low <= record.ratio <= record.ratio_high < 10
    assert (folder / "dgcnn.shapes.json").read_bytes() == parent
    failed, line = map(json.loads, out.read_text().splitlines())  # its speed-up stood there already
    assert line["ratio"] == record.ratio
    assert (failed["name"], failed["mode"]) == (name, "cuda_graph")
    assert failed["failed"].startswith("CUDA graphs need a CUDA GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")
def test_without_a_gpu_the_command_says_so_and_writes_nothing(tmp_path: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in store.package_dir().iterdir()}
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", str(BENCHMARKS / "gpu.sh"), str(out)], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "ZOO_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: there is no CUDA GPU here: nothing was measured, and nothing written\n"
    assert not out.exists()
    assert {path.name: path.read_bytes() for path in store.package_dir().iterdir()} == shipped


def test_a_parent_comes_from_a_mirror(empty_home: Path, mirror: Path, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "folder"
    make(folder, "net-small.shapes", b"another one", parent="net.shapes", **PARENT)
    cards, _ = card_times.entries([folder])
    assert list(cards) == ["net-small.shapes"]  # what else the mirror has is not timed
    assert zoo_times.parents_of(cards, [])[0] == {}
    for given in ([str(mirror)], []):
        parents, said = zoo_times.parents_of(cards, given)
        assert (list(parents), said) == (["net.shapes"], [])
        monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    path = zoo_times.checkpoint_in([folder], [])
    assert path(cards["net-small.shapes"]).read_bytes() == b"another one"
    assert path(parents["net.shapes"]).parent == store.cache_dir()
    Path(path(cards["net-small.shapes"])).write_bytes(b"another 0ne")
    with pytest.raises(ZooError, match="damaged"):
        path(cards["net-small.shapes"])
