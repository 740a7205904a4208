"""benchmarks/train_all.py: which commands, in which order, and what it does where entries are there already."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from scripts import BENCHMARKS, script
from store_entries import make, plain, write_index

from zoo import cli, models, store
from zoo.cards import parse_name
from zoo.datasets import list_datasets
from zoo.evaluate import count
from zoo.train import recipe_for

train_all = script("train_all")
SMALL, FULL, SEED = (train_all.commands(*of) for of in (("small", 0), ("full", 0), ("small", 1)))
PARENT, CHILD = "dgcnn-seed1.modelnet10", "dgcnn-pruned-0.75x-seed1.modelnet10"


@pytest.fixture
def ran(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The commands that were run, instead of which a card is made that says what the command would say."""
    ran: list[list[str]] = []

    def run(self: object, words: Sequence[str]) -> bool:
        ran.append(list(words))
        folder = Path(words[words.index("--output-dir") + 1]) if "--output-dir" in words else store.user_dir()
        if (name := name_of(words)) != os.environ.get("FAIL"):
            record(folder, name, words)
        return name != os.environ.get("FAIL")

    monkeypatch.setattr(train_all.Runner, "__call__", run)
    monkeypatch.setattr(train_all, "ROOT", empty_home.parent / "clone")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield ran
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


def option(words: Sequence[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


def name_of(words: Sequence[str]) -> str:
    width = f"-{option(words, '--width')}x" if "--width" in words else ""
    return option(words, "--name") or f"{words[1]}{width}.{option(words, '--dataset')}"


def record(folder: Path, name: str, words: Sequence[str]) -> None:
    """Put an entry there whose card has the command as `zoo` writes it: with defaults, without how it was run."""
    words = [word for word in words if word != "--overwrite"]
    for other in ("--output-dir", "--workers"):
        if other in words:
            del words[words.index(other) : words.index(other) + 2]
    recipe: dict[str, str] = {}
    if words[0] == "reprune":
        at = words.index("--target-macs") + 1
        words[at] = str(float(words[at]))
        words += ["--images", "128"]
        recipe["parent_sha256"] = store.cards()[words[1]].saved.sha256
    recipe["command"] = shlex.join(["zoo", *words])
    make(folder, name, " ".join(words).encode(), dataset=name.rpartition(".")[2], recipe=recipe)


def invoke(*options: str) -> Result:
    return CliRunner().invoke(train_all.main, options)


# -- the list ------------------------------------------------------------------------------------------------


def test_the_list_begins_with_the_dgcnn_and_its_pruned_networks() -> None:
    macs = [
        count(models.build("dgcnn", num_classes=10, widths=models.scaled_widths("dgcnn", w)), (3, 512)).macs
        for w in (0.75, 0.5, 0.25)
    ]
    lines = invoke("--dry-run", "--small").output.splitlines()
    assert lines[0] == "zoo train dgcnn --dataset modelnet10 --points 512 --epochs 10 --fp16-weights"
    assert [option(line.split(), "--target-macs") for line in lines[1:5]] == [str(n) for n in (*macs, macs[2])]
    assert lines[1] == (
        f"zoo reprune dgcnn.modelnet10 --method combined --samples 128 --target-macs {macs[0]} "
        "--groups edge1,edge2,edge3,edge4 --round-to 1 -O search.holdout=0.0 --recovery 0 --finetune-epochs 8 "
        "--fp16-weights --name dgcnn-pruned-0.75x.modelnet10"
    )


@pytest.mark.parametrize("listed", [SMALL, FULL, SEED], ids=["small", "full", "seed 1"])
def test_every_command_is_one_that_zoo_takes_and_makes_the_entry(listed: dict[str, list[str]]) -> None:
    known: list[str] = []
    for name, words in listed.items():
        assert train_all.options(words)["command"] == words[0]  # raises for an option that there is not
        assert name_of(words) == name
        assert parse_name(name).dataset in list_datasets()
        assert words[1] in (models.ARCHS if words[0] == "train" else known)  # what is pruned is made before
        known.append(name)


def test_the_full_list_trains_for_the_recipes_epochs() -> None:
    for words in FULL.values():
        if words[0] == "train":
            epochs = recipe_for("train", words[1], option(words, "--dataset")).epochs
            assert option(words, "--epochs") == str(epochs)
        else:
            arch, _, dataset = words[1].partition(".")
            assert option(words, "--finetune-epochs") == str(recipe_for("finetune", arch, dataset).epochs)


def test_another_seed_is_for_the_modelnet10_family_and_stands_in_the_names() -> None:
    assert list(SEED) == [n.replace(".modelnet10", "-seed1.modelnet10") for n in SMALL if n.endswith(".modelnet10")]
    assert {option(words, "--seed") for words in SEED.values()} == {"1"}


def test_the_names_say_no_less_than_the_networks_cost() -> None:
    for name, words in FULL.items():
        arch, _, dataset = words[1].partition(".")
        if words[0] == "train" or arch == "dgcnn":
            continue
        shape = {"imagenette": (3, 64, 64), "cifar10": (3, 32, 32)}[dataset]
        w = float(name.partition("-pruned-")[2].partition("x.")[0])
        with torch.device("meta"):  # no weights to draw
            widths = [models.scaled_widths(arch, m, num_classes=10) for m in (1.0, w, w - 0.01)]
            dense = [models.build(arch, num_classes=10, widths=each) for each in widths]
            whole, least, below = (count(each, shape).macs for each in dense)
        assert below < float(option(words, "--target-macs") or "nan") * whole <= least


# -- whether a command made an entry ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("train dgcnn --dataset modelnet10 --epochs 10", True),
        ("train dgcnn --epochs 10 --dataset modelnet10 --points 1024", True),
        ("train dgcnn --dataset modelnet10 --epochs 11", False),
        ("train dgcnn --dataset modelnet10 --epochs 10 --width 0.5", False),
        ("train pointnet --dataset modelnet10 --epochs 10", False),
        ("finetune dgcnn --dataset modelnet10 --epochs 10", False),
        ("train dgcnn --dataset modelnet10", False),
        ("train dgcnn --dataset modelnet10 --epochs 10 --half", False),
    ],
)
def test_a_command_made_an_entry_if_the_card_says_all_of_it_and_else_defaults(typed: str, same: bool) -> None:
    command = "zoo train dgcnn --dataset modelnet10 --points 1024 --epochs 10 --lr 0.1 --batch-size 32 --seed 0"
    card = plain("dgcnn.modelnet10", dataset="modelnet10", recipe={"command": command})
    assert train_all.command_matches_card(typed.split(), card, {}) is same
    more = plain("dgcnn.modelnet10", dataset="modelnet10", recipe={"command": f"{command} --average"})
    assert not train_all.command_matches_card(typed.split(), more, {})


def test_the_cards_of_this_clone_are_recognised_as_made_by_the_small_list() -> None:
    known = {path.stem: store.read_card(path) for folder in ("zoo/checkpoints", "mirror", "benchmarks/seeds")
             for path in (BENCHMARKS.parent / folder).glob("*.*.json")}  # fmt: skip
    for name, words in [*SMALL.items(), *SEED.items()]:
        assert train_all.command_matches_card(words, known[name], known), name
    assert not any(train_all.command_matches_card(words, known[name], known) for name, words in FULL.items())


def test_the_card_of_a_real_command_is_recognised(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.workflows.training.train", lambda *given, **options: None)

    def made(typed: str, name: str, *how: str) -> bool:
        if how:
            done = CliRunner().invoke(cli.main, [*typed.split(), *how])
            assert done.exit_code == 0, done.output
        known = store.cards()
        return bool(train_all.command_matches_card(typed.split(), known[name], known))

    trained = "train dgcnn --dataset shapes --points 24 --epochs 12 --width 0.25"
    assert made(trained, "dgcnn-0.25x.shapes")
    assert not made(trained.replace("--epochs 12", "--epochs 2"), "dgcnn-0.25x.shapes")
    pruned = "reprune dgcnn-0.25x.shapes --method l1 --eps 1000 --groups edge1 --finetune-epochs 0 --name p.shapes"
    assert made(pruned, "p.shapes", "--device", "cpu")
    assert not made(pruned.replace("edge1", "edge2"), "p.shapes")
    assert not made(pruned.replace("--groups edge1 ", ""), "p.shapes")
    assert made(f"{trained} --seed 1", "dgcnn-0.25x.shapes", "--device", "cpu", "--overwrite")
    assert not made(pruned, "p.shapes")  # its parent is another one now


# -- what is there already -----------------------------------------------------------------------------------


def test_all_of_it_once_and_then_nothing_again(ran: list[list[str]]) -> None:
    assert invoke("--small", "--seed", "1").exit_code == 0
    assert ran == list(SEED.values())
    again = invoke("--small", "--seed", "1")
    assert again.exit_code == 0
    assert again.output.splitlines() == [f"== {name} is there" for name in SEED]
    assert len(ran) == len(SEED)


def test_the_full_size_takes_the_place_of_the_small_one_and_not_the_other_way_round(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert invoke("--small", "--seed", "1").exit_code == 0
    assert invoke("--seed", "1").exit_code == 0
    full = train_all.commands("full", 1)
    assert ran[len(SEED) :] == [[*words, "--workers", "8", "--overwrite"] for words in full.values()]
    done = invoke("--small", "--seed", "1")
    assert done.exit_code == 0
    assert len(ran) == len(SEED) + len(full)
    assert done.output.splitlines()[:2] == [
        f"== {PARENT} is left out: the entry there was made by another command",
        f"== {CHILD} is left out: its parent was made by another command",
    ]


def test_what_the_package_ships_is_replaced_in_the_clone_by_the_full_size_alone(ran: list[list[str]]) -> None:
    record(store.package_dir(), "dgcnn.modelnet10", SMALL["dgcnn.modelnet10"])
    assert invoke("--small").output.startswith("== dgcnn.modelnet10 is there\n")
    ran.clear()
    assert invoke().exit_code == 0
    assert ran[0][-3:] == ["--overwrite", "--output-dir", str(train_all.ROOT / "zoo" / "checkpoints")]


def test_what_fails_takes_its_children_with_it_and_nothing_else(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", PARENT)
    done = invoke("--small", "--seed", "1")
    family = [name for name, words in SEED.items() if PARENT in (name, words[1])]
    assert (done.exit_code, len(family)) == (1, 5)
    assert done.output.splitlines()[-1] == f"Error: not made: {' '.join(family)}"
    assert ran == [words for name, words in SEED.items() if name not in family[1:]]


def test_a_child_of_another_version_of_its_parent_is_made_again(ran: list[list[str]]) -> None:
    assert invoke("--small", "--seed", "1").exit_code == 0
    recipe = {"command": shlex.join(["zoo", *SEED[PARENT]])}
    make(store.user_dir(), PARENT, b"trained again", dataset="modelnet10", recipe=recipe)
    done = invoke("--small", "--seed", "1")
    assert f"== {CHILD} is left out: the entry there was made by another command" in done.output
    assert len(ran) == len(SEED)


def test_what_a_mirror_has_by_the_same_command_is_downloaded(
    ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = list(SEED)[5:8]
    record(tmp_path / "mirror", first, SEED[first])
    record(tmp_path / "mirror", second, [*SEED[second], "--average"])
    record(tmp_path / "mirror", third, SEED[third])
    next((tmp_path / "mirror").glob(f"{third}-*.safetensors")).unlink()  # a card whose weights are not there
    write_index(tmp_path / "mirror")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    assert invoke("--small", "--seed", "1").exit_code == 0
    assert ran == [words for name, words in SEED.items() if name != first]
    assert (store.cache_dir() / f"{first}.json").exists()


# -- signals -------------------------------------------------------------------------------------------------

SCRIPT = """
import sys; sys.path[:0] = {path!r}
import train_all
run = train_all.Runner()
print(run(["first"]), run.stopped, flush=True)
"""
COMMAND = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("saved").touch() or sys.exit(143))
pathlib.Path("began").touch()
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_reaches_the_command_that_runs(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()  # stands in for the package where -m looks first
    (tmp_path / "zoo" / "__main__.py").write_text(COMMAND)
    code = SCRIPT.format(path=[str(BENCHMARKS)])
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        wait_for((tmp_path / "began").exists)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[0] == "False True\n"
    assert (tmp_path / "saved").exists()


def test_after_a_signal_nothing_else_begins(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    usual = train_all.Runner.__call__

    def interrupted(self: "train_all.Runner", words: Sequence[str]) -> bool:
        done = usual(self, words)
        os.kill(os.getpid(), signal.SIGTERM)
        return bool(done)

    monkeypatch.setattr(train_all.Runner, "__call__", interrupted)
    assert invoke("--small", "--seed", "1").exit_code == 143
    assert ran == [SEED[PARENT]]


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not there() and time.monotonic() < until:
        time.sleep(0.05)
