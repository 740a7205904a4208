"""The entries in mirror/, which are too large for the package: a folder that `zoo publish` wrote."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo
from zoo import mirrors, store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.files import sha256_of
from zoo.measure import count

MIRROR = Path(__file__).resolve().parent.parent / "mirror"
ENTRIES = sorted(path.stem for path in MIRROR.glob("*.json") if path.name != mirrors.INDEX)


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


def test_the_index_lists_what_is_there_and_nothing_else_is():
    assert ENTRIES
    assert mirrors.index(str(MIRROR)) == ENTRIES
    files = {store.read_card(MIRROR / f"{name}.json").saved.name for name in ENTRIES}
    listed = {path.name for path in MIRROR.iterdir() if not path.name.startswith(".")}
    assert listed == files | {f"{name}.json" for name in ENTRIES} | {mirrors.INDEX}
    assert not set(ENTRIES) & set(zoo.list_models()), "what is shipped needs no mirror"


@pytest.mark.parametrize("name", ENTRIES)
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


def test_a_card_is_shown_before_anything_is_downloaded(monkeypatch):
    name = ENTRIES[0]
    shown = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR)])
    assert shown.exit_code == 0, shown.output
    assert f"type zoo download {name} --mirror {MIRROR}\n" in shown.output
    monkeypatch.setenv("ZOO_MIRROR", str(MIRROR))
    assert f"type zoo download {name}\n" in CliRunner().invoke(main, ["info", name]).output
    unknown = CliRunner().invoke(main, ["info", "nothing"])
    assert "no model 'nothing'" in unknown.output
    asked = CliRunner().invoke(main, ["info", name, "--mirror", str(MIRROR), "--json"])
    assert asked.output == (MIRROR / f"{name}.json").read_text(encoding="utf-8")
