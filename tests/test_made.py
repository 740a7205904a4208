"""benchmarks/made.py: whether a command made an entry, and which entries are to be published."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from scripts import script
from store_entries import make

from zoo import cli, store

made = script("made")


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("zoo train dgcnn --dataset modelnet10 --epochs 10", True),
        ("zoo train dgcnn --epochs 10 --dataset modelnet10", True),
        ("zoo train dgcnn --dataset modelnet10 --epochs 10.0", True),
        ("zoo train dgcnn --dataset modelnet10 --epochs 11", False),
        ("zoo train dgcnn --dataset modelnet10 --epochs 10 --width 0.5", False),
        ("zoo train pointnet --dataset modelnet10 --epochs 10", False),
        ("zoo finetune dgcnn --dataset modelnet10 --epochs 10", False),
        ("zoo train dgcnn --dataset modelnet10 --average", False),
    ],
)
def test_a_command_made_an_entry_if_all_of_it_stands_on_the_card(typed: str, same: bool) -> None:
    recorded = "zoo train dgcnn --dataset modelnet10 --points 512 --epochs 10 --lr 0.1 --batch-size 32 --seed 0"
    assert made.same(typed.split(), recorded) is same


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # newer Pythons warn of fork beside threads
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_made_by_the_zoo_itself(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: list[str]
) -> None:
    """The card that a real command writes is recognised, whoever loaded the data; so is the run to go on with."""
    command = ["zoo", "train", "dgcnn", "--dataset", "shapes", "--points", "32", "--epochs", "1"]
    assert made.main("dgcnn.shapes", command) == 4
    states = []
    monkeypatch.setattr("zoo.train_entry.train", lambda *given, checkpoint, **options: states.append(checkpoint))
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


def test_what_is_too_large_for_a_repository_is_named_instead(
    empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(made, "LARGEST", 4000.0)
    make(store.own(), "large.shapes")
    for name in ("old.shapes", "same.shapes", "new.shapes", "shipped.shapes"):
        make(store.own(), name, name.encode())
    make(store.shipped(), "shipped.shapes")
    make(tmp_path / "mirror", "old.shapes", b"another one")
    make(tmp_path / "mirror", "same.shapes", b"same.shapes")
    names = ["large.shapes", "old.shapes", "same.shapes", "new.shapes", "shipped.shapes", "absent.shapes"]
    assert list(made.to_publish(names, tmp_path / "mirror")) == ["old.shapes", "new.shapes"]
    assert capsys.readouterr().err == "== large.shapes has 0 MB: too large for mirror/ as well\n"
