"""benchmarks/made.py: whether a command made an entry, and which entries are to be published."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripts import script
from store_entries import make, plain

from zoo.cli import app as cli
from zoo.store import store

made = script("made")


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("zoo train dgcnn --dataset modelnet10 --epochs 10", True),
        ("zoo train dgcnn --epochs 10 --dataset modelnet10", True),
        ("zoo train dgcnn --dataset modelnet10 --epochs 10.0", True),
        ("zoo train dgcnn --dataset modelnet10 --epochs 11", False),
        ("zoo train dgcnn --dataset modelnet10", False),  # 250 epochs
        ("zoo train dgcnn --epochs 10", False),  # shapes
        ("zoo train dgcnn --dataset modelnet10 --epochs 10 --width 0.5", False),
        ("zoo train pointnet --dataset modelnet10 --epochs 10", False),
        ("zoo finetune dgcnn --dataset modelnet10 --epochs 10", False),
        ("zoo train dgcnn --dataset modelnet10 --average", False),
    ],
)
def test_a_command_made_an_entry_if_all_of_it_stands_on_the_card(typed: str, same: bool) -> None:
    recorded = "zoo train dgcnn --dataset modelnet10 --points 1024 --epochs 10 --lr 0.1 --batch-size 32 --seed 0"
    made_by = plain("dgcnn.modelnet10", arch="dgcnn", dataset="modelnet10", sample_shape=(3, 1024),
                    recipe={"command": recorded})  # fmt: skip
    assert made.same(typed.split(), made_by, {}) is same


SETTINGS = ("--points 8", "--lr 0.01", "--batch-size 512", "--seed 3", "--name other.modelnet10", "--mean 0 0 0")


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_not_typed_is_the_default(setting: str) -> None:
    typed = "zoo train dgcnn --dataset modelnet10 --epochs 10"
    card = plain("dgcnn.modelnet10", arch="dgcnn", dataset="modelnet10", sample_shape=(3, 8),
                 recipe={"command": f"{typed} {setting}"})  # fmt: skip
    assert not made.same(typed.split(), card, {})
    assert made.same(f"{typed} {setting}".split(), card, {})


def test_what_a_child_does_not_say_is_its_parents(tmp_path: Path) -> None:
    form: dict[str, object] = {"arch": "resnet34", "dataset": "imagenette", "sample_shape": (3, 64, 64)}
    parent = make(tmp_path, "a.imagenette", **form, recipe={"command": "zoo train", "mean": (0.5, 0.4, 0.3)})
    typed = "zoo reprune a.imagenette --eps 0.1"
    rest = "--method combined --dataset imagenette --size 64 --mean 0.5 0.4 0.3 --images 256 --finetune-epochs 0"

    def same(command: str, sha256: str = parent.saved.sha256, known: bool = True) -> bool:
        recipe = {"command": command, "eps": 0.1, "parent_sha256": sha256}
        terms = replace(parent.licences, parent="unknown")
        card = plain("a-pruned.imagenette", **form, parent=parent.name, recipe=recipe, licences=terms)
        return bool(made.same(typed.split(), card, {parent.name: parent} if known else {}))

    assert same(f"{typed} {rest}")
    for one, other in (("64", "128"), ("256", "64"), ("0.5 0", "0.6 0"), ("combined", "local"), ("ochs 0", "ochs 1")):
        assert one in rest
        assert not same(f"{typed} {rest}".replace(one, other)), other
    assert not same(f"{typed} {rest}", sha256="0" * 64)  # from a parent that has another's name today
    assert same(f"{typed} --method combined --dataset imagenette --size 128", sha256="0" * 64, known=False)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # newer Pythons warn of fork beside threads
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_made_by_the_zoo_itself(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: list[str]
) -> None:
    """The card that a real command writes is recognised, whoever loaded the data; so is the run to go on with."""
    command = ["zoo", "train", "dgcnn", "--dataset", "shapes", "--points", "32", "--epochs", "1"]
    assert made.main("dgcnn.shapes", command) == 4
    states = []
    monkeypatch.setattr("zoo.workflows.training.train", lambda *given, checkpoint, **options: states.append(checkpoint))
    done = CliRunner().invoke(cli.main, [*command[1:], *workers])
    assert done.exit_code == 0, done.output
    assert made.main("dgcnn.shapes", command) == 0
    assert made.main("dgcnn.shapes", [*command[:-1], "2"]) == 3
    recorded = capsys.readouterr().out
    assert recorded.startswith("zoo train dgcnn --dataset shapes --points 32 --epochs 1 --lr ")
    assert "--workers" not in recorded
    other = [] if workers else ["--workers", "1"]
    assert CliRunner().invoke(cli.main, [*command[1:], *other]).exit_code == 0  # the same command: it may replace it
    assert states[0] == states[1]
    pruned = ["zoo", "reprune", "dgcnn.shapes", "--eps", "1000", "--method", "l1"]
    assert CliRunner().invoke(cli.main, [*pruned[1:], "--name", "p.shapes"]).exit_code == 0
    assert made.main("p.shapes", pruned) == 0
    assert made.main("p.shapes", [*pruned, "--images", "64"]) == 3
    assert CliRunner().invoke(cli.main, [*command[1:], *other, "--seed", "1", "--overwrite"]).exit_code == 0
    assert made.main("p.shapes", pruned) == 3


def test_what_is_too_large_for_a_repository_is_named_instead(
    empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(made, "LARGEST", 4000.0)
    make(store.user_dir(), "large.shapes")
    for name in ("old.shapes", "same.shapes", "new.shapes", "shipped.shapes"):
        make(store.user_dir(), name, name.encode())
    make(store.package_dir(), "shipped.shapes")
    make(tmp_path / "mirror", "old.shapes", b"another one")
    make(tmp_path / "mirror", "same.shapes", b"same.shapes")
    names = ["large.shapes", "old.shapes", "same.shapes", "new.shapes", "shipped.shapes", "absent.shapes"]
    assert list(made.to_publish(names, tmp_path / "mirror")) == ["old.shapes", "new.shapes"]
    assert capsys.readouterr().err == "== large.shapes has 0 MB: too large for mirror/ as well\n"
