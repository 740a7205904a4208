"""benchmarks/train_all.sh: which commands, in which order, and what it does where entries are there already."""

import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripts import BENCHMARKS
from store_entries import make, write_index

from zoo import models
from zoo.cards import names
from zoo.cli import commands
from zoo.datasets import list_datasets
from zoo.evaluate import count
from zoo.store import mirrors, store
from zoo.train import recipe as recipes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")

# Stands in for `zoo`: notes its words, and makes an entry as the command would, with the defaults that it fills in.
FAKE = """#!{python}
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {support!r})
from store_entries import make
words, home = sys.argv[1:], Path(os.environ["ZOO_HOME"])
with open(home / "ran", "a") as file:
    print("zoo", *words, file=file)
flags = ("--overwrite", "--half")
pairs = [word for word in words if word not in flags]
options = dict(zip(pairs[2::2], pairs[3::2]))
width = "-" + options["--width"] + "x" if "--width" in options else ""
name = options.get("--name") or f"{{words[1]}}{{width}}.{{options['--dataset']}}"
if name == os.environ.get("FAIL"):
    sys.exit(2)
if name == os.environ.get("SLOW"):
    signal.signal(signal.SIGTERM, lambda number, frame: (home / "saved").touch() or sys.exit(143))
    (home / "began").touch()
    time.sleep(60)
for option in ("--out", "--workers"):
    if option in words:
        del words[words.index(option) : words.index(option) + 2]
words = [word for word in words if word != "--overwrite"]
if words[0] == "reprune":
    at = words.index("--target-macs") + 1
    words[at] = str(float(words[at]))
dataset = name.rpartition(".")[2]
clouds = dataset == "modelnet10"
if words[0] == "reprune":
    words += ["--images", "128" if clouds else "256"]
make(home / "own", name, name.encode(), dataset=dataset, sample_shape=(3, 512) if clouds else (3, 128, 128),
     recipe={{"command": " ".join(["zoo", *words])}})
"""
SUPPORT = str(BENCHMARKS.parent / "tests" / "support")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tools, home = tmp_path / "bin", tmp_path / "home"
    tools.mkdir()
    home.mkdir()
    (tools / "zoo").write_text(FAKE.format(python=sys.executable, support=SUPPORT))
    (tools / "zoo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setenv("ZOO_HOME", str(home))
    monkeypatch.setenv("SHIPPED", str(tmp_path / "shipped"))
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}/shipped_elsewhere", prepend=os.pathsep)
    return home


def train_all(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", str(BENCHMARKS / "train_all.sh"), *options],
        capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable, **environment}, timeout=300,
    )  # fmt: skip


@functools.cache
def listed(*options: str) -> list[str]:
    done = train_all("--dry-run", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ran(home: Path) -> list[str]:
    return (home / "ran").read_text().splitlines() if (home / "ran").exists() else []


WORKERS = f" --workers {min(8, (os.cpu_count() or 1) - 1)}"


def entries(lines: Sequence[str]) -> list[str]:
    """The names of the entries that the commands make."""
    found = []
    for line in lines:
        words = [word for word in shlex.split(line) if word != "--half"]
        options = dict(zip(words[3::2], words[4::2], strict=True))
        width = f"-{options['--width']}x" if "--width" in options else ""
        found.append(options.get("--name") or f"{words[2]}{width}.{options['--dataset']}")
    return found


# -- the list ------------------------------------------------------------------------------------------------


def test_the_small_list_begins_with_the_dgcnn_and_its_pruned_networks() -> None:
    lines = listed("--small")
    macs = {}
    for w in ("0.75", "0.5", "0.25"):
        dense = models.build("dgcnn", num_classes=10, widths=models.scaled_widths("dgcnn", float(w)))
        macs[w] = count(dense, (3, 512)).macs
    train = "zoo train dgcnn --dataset modelnet10 --points 512 --epochs 10"
    edges = "--groups edge1,edge2,edge3,edge4 "
    pruned = f"zoo reprune dgcnn.modelnet10 --method combined --target-macs {{}} {edges}--finetune-epochs 8 --half"
    pruned += " --name {}"
    repaired = pruned.replace("combined", "repaired").replace(edges, "")
    repaired = repaired.format(macs["0.25"], "dgcnn-pruned-0.25x-repaired.modelnet10")
    assert lines[:8] == [
        f"{train} --half",
        *(pruned.format(macs[w], f"dgcnn-pruned-{w}x.modelnet10") for w in macs),
        repaired,
        *(f"{train} --width {w} --half" for w in macs),
    ]
    assert "zoo train resnet34 --dataset imagenette --size 64 --epochs 8 --half" in lines


@pytest.mark.parametrize("options", [[], ["--small"], ["--seed", "2"]])
def test_every_command_is_one_that_zoo_takes_and_every_name_is_one(options: list[str]) -> None:
    lines = listed(*options)
    known: list[str] = []
    for line, name in zip(lines, entries(lines), strict=True):
        words = shlex.split(line)
        command = {"train": commands.train, "reprune": commands.reprune}[words[1]]
        command.make_context(words[1], words[2:])  # raises for an option that there is not
        assert names.parse_name(name).dataset in list_datasets()
        assert words[2] in (models.ARCHS if words[1] == "train" else known)  # what is pruned was made before
        known.append(name)
    assert len(set(known)) == len(known)


def test_the_full_list_trains_for_the_recipes_epochs() -> None:
    for line in listed():
        words = [word for word in shlex.split(line) if word != "--half"]
        options = dict(zip(words[3::2], words[4::2], strict=True))
        if words[1] == "train":
            recipe = recipes.recipe_for("train", words[2], options["--dataset"])
            assert int(options["--epochs"]) == recipe.epochs
            assert options.get("--points", "1024") == "1024"
        else:
            arch, _, dataset = words[2].partition(".")
            assert int(options["--finetune-epochs"]) == recipes.recipe_for("finetune", arch, dataset).epochs


def test_data_are_loaded_beside_the_training_unless_there_are_two_cores_only() -> None:
    assert all(line.endswith(WORKERS) for line in listed())
    assert not any("--workers" in line for line in listed("--small"))


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 1), (8, 7), (9, 8), (64, 8)])
def test_all_processors_but_one_load_data(cores: int, workers: int, tmp_path: Path) -> None:
    (tmp_path / "getconf").write_text(f"#!/bin/sh\necho {cores}\n")
    (tmp_path / "getconf").chmod(0o755)
    done = train_all("--dry-run", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.stdout.splitlines()[0].endswith(f" --workers {workers}")


def test_another_seed_is_for_the_modelnet10_family_and_stands_in_the_names() -> None:
    zero, one = entries(listed("--small")), entries(listed("--small", "--seed", "1"))
    assert one == [name.replace(".modelnet10", "-seed1.modelnet10") for name in zero if name.endswith(".modelnet10")]
    assert all("--seed 1" in line for line in listed("--small", "--seed", "1"))
    assert listed("--small", "--seed", "0") == listed("--small")


def test_the_names_say_no_less_than_the_networks_cost() -> None:
    for line in listed():
        words = [word for word in shlex.split(line) if word != "--half"]
        options = dict(zip(words[3::2], words[4::2], strict=True))
        if "--target-macs" not in options or words[2].startswith("dgcnn"):
            continue
        arch, _, dataset = words[2].partition(".")
        shape = {"imagenette": (3, 64, 64), "cifar10": (3, 32, 32)}[dataset]
        w = float(options["--name"].partition("-pruned-")[2].partition("x.")[0])
        whole, least, below = (
            count(models.build(arch, num_classes=10, widths=models.scaled_widths(arch, m, num_classes=10)), shape)
            for m in (1.0, w, w - 0.01)
        )
        assert below.macs < float(options["--target-macs"]) * whole.macs <= least.macs


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tiny"], "unknown option --tiny"),
        (["--seed", "one"], "--seed takes a whole number"),
        (["--seed", "08"], "--seed takes a whole number"),
        (["--seed", "9" * 30], "--seed takes a whole number"),
        (["--seed"], "needs a"),
    ],
)
def test_bad_options(options: list[str], reason: str) -> None:
    done = train_all(*options)
    assert done.returncode != 0
    assert reason in done.stderr
    assert done.stdout == ""


# -- what is there already -----------------------------------------------------------------------------------


def test_all_of_it_once_and_then_nothing_again(home: Path) -> None:
    wanted = listed("--seed", "1")
    done = train_all("--seed", "1")
    assert done.returncode == 0, done.stderr
    assert ran(home) == wanted
    again = train_all("--seed", "1")
    assert again.returncode == 0
    assert ran(home) == wanted
    *there, _, _, publish = again.stdout.splitlines()
    assert there == [f"== {name} is there" for name in entries(wanted)]
    assert publish == f"zoo publish benchmarks/seeds {' '.join(entries(wanted))} --overwrite"


def test_the_full_size_takes_the_place_of_the_small_one_and_not_the_other_way_round(home: Path) -> None:
    small, full = listed("--small", "--seed", "1"), listed("--seed", "1")
    train_all("--small", "--seed", "1")
    assert train_all("--seed", "1").returncode == 0
    assert ran(home)[len(small) :] == [f"{line} --overwrite" for line in full]
    done = train_all("--small", "--seed", "1")
    assert done.returncode == 0
    assert len(ran(home)) == len(small) + len(full)
    first, second, *_ = done.stdout.splitlines()
    assert first == f"== dgcnn-seed1.modelnet10 is there, made by: {full[0].removesuffix(WORKERS)}"
    assert second == (
        "== dgcnn-pruned-0.75x-seed1.modelnet10 is left out: dgcnn-seed1.modelnet10 is not the one that this list makes"
    )


def test_what_the_package_ships_is_replaced_where_it_lies_by_the_full_size_alone(home: Path, tmp_path: Path) -> None:
    small, full = listed("--small")[0], listed()[0]
    form: dict[str, object] = {"arch": "dgcnn", "dataset": "modelnet10", "sample_shape": (3, 512)}
    make(tmp_path / "shipped", "dgcnn.modelnet10", **form, recipe={"command": f"{small} --lr 0.1"})
    assert train_all("--small").stdout.startswith("== dgcnn.modelnet10 is there\n")
    (home / "ran").unlink()
    assert train_all().returncode == 0
    assert ran(home)[0].startswith(f"{full} --overwrite --out ")
    assert Path(ran(home)[0].rpartition(" ")[2]).resolve() == BENCHMARKS.parent / "zoo" / "checkpoints"


def test_what_fails_takes_its_children_with_it_and_nothing_else(home: Path) -> None:
    make(home / "own", "dgcnn.modelnet10", dataset="modelnet10", recipe={"command": "zoo train dgcnn --epochs 1"})
    lines = listed()
    done = train_all(FAIL="dgcnn.modelnet10")
    assert done.returncode == 1
    names = [name for name in entries(lines) if name.startswith(("dgcnn.", "dgcnn-pruned"))]
    assert done.stderr == f"not made: {' '.join(names)}\n"
    assert ran(home) == [f"{lines[0]} --overwrite", *lines[5:]]


def test_without_the_command_nothing_is_tried(home: Path, tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = train_all("--small", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("there is no command zoo on the PATH")
    assert done.stderr.count("\n") == 1
    assert train_all("--small", "--dry-run", PATH=str(tmp_path)).returncode == 0


def test_a_signal_between_two_commands_ends_it(home: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"  # slow where it is asked whether an entry is made
    python.write_text(f"""#!/bin/sh
case $1 in *made.py) touch {home}/asked; sleep 2; esac
exec {sys.executable} "$@"
""")
    python.chmod(0o755)
    command = ["bash", str(BENCHMARKS / "train_all.sh"), "--small", "--seed", "1"]
    with subprocess.Popen(command, env={**os.environ, "PYTHON": str(python)}, stdout=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while not (home / "asked").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == b""
        assert process.returncode == 143
    assert ran(home) == []


def test_a_signal_reaches_the_command_and_the_next_run_goes_on_there(home: Path) -> None:
    lines = listed("--small", "--seed", "1")
    slow = "dgcnn-pruned-0.5x-seed1.modelnet10"
    with subprocess.Popen(
        ["bash", str(BENCHMARKS / "train_all.sh"), "--small", "--seed", "1"],
        env={**os.environ, "PYTHON": sys.executable, "SLOW": slow},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 120
        while not (home / "began").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    assert (home / "saved").exists()
    assert ran(home) == lines[:3]
    assert train_all("--small", "--seed", "1").returncode == 0
    assert ran(home) == [*lines[:3], *lines[2:]]


def test_what_a_mirror_has_by_the_same_command_is_downloaded(home: Path, tmp_path: Path) -> None:
    lines, mirror = listed("--small", "--seed", "1"), tmp_path / "a mirror"
    names = entries(lines)
    for at, command in ((0, lines[0]), (1, lines[1]), (2, lines[2].replace("epochs 8", "epochs 7"))):
        make(mirror, names[at], names[at].encode(), dataset="modelnet10", recipe={"command": command})
    write_index(mirror)
    done = train_all("--small", "--seed", "1", ZOO_MIRROR=str(mirror))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [f"== {name} is there" for name in names[:2]]
    assert ran(home) == lines[2:]
    assert [name for name in names if (home / "cache" / f"{name}.json").exists()] == names[:2]
    full = train_all("--seed", "1", ZOO_MIRROR=str(mirror))
    assert full.returncode == 0, full.stderr
    assert ran(home)[len(lines) - 2 :][:2] == listed("--seed", "1")[:2]


# -- what to do with the entries -----------------------------------------------------------------------------


def test_the_lines_that_it_ends_with_bring_entries_into_the_mirror_and_the_readme(home: Path, tmp_path: Path) -> None:
    """Of a copy of this repository: they are run as they are printed."""
    root, clone = BENCHMARKS.parent, tmp_path / "a clone"
    for folder in ("benchmarks", "mirror", "zoo/checkpoints"):
        shutil.copytree(root / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__", ".locks"))
    shutil.copy(root / "README.md", clone)
    command = ["bash", str(clone / "benchmarks/train_all.sh"), "--small"]
    environment = {**os.environ, "PYTHON": sys.executable, "SHIPPED": str(clone / "zoo/checkpoints")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    made = [name for name in entries(ran(home)) if not (clone / f"zoo/checkpoints/{name}.json").exists()]
    assert "vgg11.cifar10" in made
    *_, title, cd, publish, table = done.stdout.splitlines()
    assert title.startswith("== what is too large for the package")
    assert publish == f"zoo publish mirror {' '.join(made)} --overwrite"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = subprocess.run(
        ["bash", "-ec", f"{cd}\n{publish}\n{table}"], capture_output=True, text=True, env={**environment, "PATH": tools}
    )
    assert lines.returncode == 0, lines.stderr
    assert mirrors.index(str(clone / "mirror")) == sorted({*made, *mirrors.index(str(root / "mirror"))})
    readme = (clone / "README.md").read_text(encoding="utf-8")
    for name in made:
        card = store.read_card(clone / "mirror" / f"{name}.json")
        assert (clone / "mirror" / card.saved.name).read_bytes() == name.encode()
        assert f"`{name}` | {' x '.join(map(str, card.sample_shape))} | 3 / 4, 75.0 % (30.1-95.4) |" in readme
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert again.stdout.splitlines() == [f"== {name} is there" for name in entries(listed("--small"))]


def test_another_seed_comes_to_where_the_table_finds_it(home: Path, tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    shutil.copytree(BENCHMARKS, clone / "benchmarks", ignore=shutil.ignore_patterns("__pycache__", "seeds"))
    command = ["bash", str(clone / "benchmarks/train_all.sh"), "--small", "--seed", "1"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    *_, title, cd, publish = done.stdout.splitlines()
    assert title == "== table3.py of this clone finds other seeds in benchmarks/seeds/ after"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the real zoo stands before the other one
    lines = subprocess.run(
        ["bash", "-ec", f"{cd}\n{publish}"], capture_output=True, text=True, env={**environment, "PATH": tools}
    )
    assert lines.returncode == 0, lines.stderr
    assert mirrors.index(str(clone / "benchmarks/seeds")) == sorted(entries(ran(home)))
    # on a machine that has none of them
    home.rename(tmp_path / "before")
    home.mkdir()
    done = subprocess.run(
        command, text=True, capture_output=True, timeout=300,
        env={**os.environ, "PYTHON": sys.executable, "ZOO_MIRROR": str(clone / "benchmarks/seeds")},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"== {name} is there" for name in entries(listed("--small", "--seed", "1"))]
