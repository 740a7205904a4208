"""The entries in mirror/, which are too large for the package, and those in benchmarks/seeds/, the ModelNet10 family of
other seeds: folders that `zoo publish` wrote."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.evaluate import count
from zoo.store import mirrors, store
from zoo.utils import sha256_of

ROOT = Path(__file__).resolve().parents[2]
MIRROR, SEEDS = ROOT / "mirror", ROOT / "benchmarks" / "seeds"


def held(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json") if path.name != mirrors.INDEX)


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


@pytest.mark.parametrize("folder", [MIRROR, SEEDS])
def test_the_index_lists_what_is_there_and_nothing_else_is(folder):
    entries = held(folder)
    assert entries
    assert mirrors.index(str(folder)) == entries
    files = {store.read_card(folder / f"{name}.json").saved.name for name in entries}
    listed = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert listed == files | {f"{name}.json" for name in entries} | {mirrors.INDEX}
    assert not set(entries) & set(zoo.list_models()), "what is shipped needs no mirror"


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder in (MIRROR, SEEDS) for name in held(folder)])
def test_an_entry_comes_from_the_mirror_as_its_card_says(folder, name):
    with pytest.raises(ZooError):
        zoo.info(name)
    card = zoo.info(name, mirror=folder)
    model = zoo.get(name, mirror=folder)
    counts = count(model, tuple(card.sample_shape))
    assert (counts.parameters, counts.macs, counts.macs_paper) == (card.parameters, card.macs, card.macs_paper)
    assert dict(card.widths) == model.widths
    path = zoo.download(name)
    assert (path.stat().st_size, sha256_of(path)) == (card.saved.size, card.saved.sha256)
    assert zoo.info(name) == card


@pytest.mark.parametrize("name", held(SEEDS))
def test_another_seed_was_made_as_the_entry_of_seed_0(name):
    """They share a row of the table: their commands differ in the seed alone."""
    stem, seed = re.fullmatch(r"(.*)(-seed[1-9]\d*)\.modelnet10", name).groups()
    folder = store.package_dir() if (store.package_dir() / f"{stem}.modelnet10.json").exists() else MIRROR
    ours, theirs = (
        store.read_card(place).recipe["command"]
        for place in (SEEDS / f"{name}.json", folder / f"{stem}.modelnet10.json")
    )
    assert f" --seed {seed.removeprefix('-seed')} " in f"{ours} "
    named = f" --name {stem}.modelnet10"  # zoo train gives this name by itself
    same = re.sub(r"--seed \d+", "--seed 0", ours.replace(seed, ""))
    assert same.replace(named, "") == theirs.replace(named, "")


def test_a_card_is_shown_before_anything_is_downloaded(monkeypatch):
    name = held(MIRROR)[0]
    shown = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR)])
    assert shown.exit_code == 0, shown.output
    assert f"type zoo download {name} --mirror {MIRROR}\n" in shown.output
    monkeypatch.setenv("ZOO_MIRROR", str(MIRROR))
    assert f"type zoo download {name}\n" in CliRunner().invoke(main, ["info", name]).output
    unknown = CliRunner().invoke(main, ["info", "nothing"])
    assert "no model 'nothing'" in unknown.output
    asked = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR), "--json"])
    assert asked.output == (MIRROR / f"{name}.json").read_text(encoding="utf-8")
