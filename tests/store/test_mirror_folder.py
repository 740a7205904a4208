"""The entries in mirror/, which are too large for the package, as `zoo publish` writes a folder; and the cards of the
ModelNet10 family of other seeds in benchmarks/seeds/."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo
from zoo import store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.evaluate import count
from zoo.store import mirrors
from zoo.utils import sha256_of

ROOT = Path(__file__).resolve().parents[2]
MIRROR, SEEDS = ROOT / "mirror", ROOT / "benchmarks" / "seeds"


def held(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json") if path.name != mirrors.INDEX)


# The entries of mirror/ whose checkpoints are there too.
WHOLE = [name for name in held(MIRROR) if any(MIRROR.glob(f"{name}-*.safetensors"))]


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


def test_the_index_lists_what_is_there_and_nothing_else_is():
    entries = held(MIRROR)
    assert mirrors.fetch_index(str(MIRROR)) == entries
    files = {store.read_card(MIRROR / f"{name}.json").saved.name for name in WHOLE}
    listed = {path.name for path in MIRROR.iterdir() if not path.name.startswith(".")}
    assert listed == files | {f"{name}.json" for name in entries} | {mirrors.INDEX}
    assert not set(entries) & set(zoo.list_models()), "what is shipped needs no mirror"


def test_the_tracked_files_are_small_enough_to_travel():
    """A clone is quick to check out, and fits where 64 MiB can be sent."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 56 * 2**20


@pytest.mark.parametrize("name", sorted(set(held(MIRROR)) - set(WHOLE)))
def test_of_what_is_too_large_the_card_says_how_to_make_it_again(name):
    card = zoo.info(name, mirror=MIRROR)
    with pytest.raises(ZooError) as refused:
        zoo.download(name, mirror=MIRROR)
    assert str(refused.value).endswith(f"there is no such file; to make {name} again type {card.recipe['command']}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", WHOLE)
def test_an_entry_comes_from_the_mirror_as_its_card_says(name):
    with pytest.raises(ZooError):
        zoo.info(name)
    card = zoo.info(name, mirror=MIRROR)
    model = zoo.get(name, mirror=MIRROR)
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
    name = WHOLE[0]
    shown = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR)])
    assert shown.exit_code == 0, shown.output
    assert f"type zoo download {name} --mirror {MIRROR}\n" in shown.output
    monkeypatch.setenv("ZOO_MIRROR", str(MIRROR))
    assert f"type zoo download {name}\n" in CliRunner().invoke(main, ["info", name]).output
    unknown = CliRunner().invoke(main, ["info", "nothing"])
    assert "no model 'nothing'" in unknown.output
    asked = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR), "--json"])
    assert asked.output == (MIRROR / f"{name}.json").read_text(encoding="utf-8")
