"""Thousands of entries, parents and broken cards, counted in files that are opened; and a home that cannot be read."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from store_entries import make, plain, write_index

import zoo
from zoo import store
from zoo.cards import Card, File
from zoo.cli import main
from zoo.display import card_table
from zoo.errors import ZooError
from zoo.store import entries, folders, mirrors


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    make(store.package_dir(), "shipped.shapes")
    return empty_home


def many(folder: Path, number: int) -> None:
    """Entries net-0.shapes, net-1.shapes, ... with one checkpoint's content."""
    card = make(folder, "net-0.shapes", b"x" * 50)
    text = card.to_json()
    for index in range(1, number):
        (folder / f"net-{index}.shapes.json").write_text(text.replace("net-0.", f"net-{index}."))
        os.link(folder / card.saved.name, folder / card.saved.name.replace("net-0.", f"net-{index}."))


# Runs commands, and prints for each of them its exit code, the files that it opened in a folder, and its seconds.
COUNTING = """
import json, sys, time
from click.testing import CliRunner
from zoo.cli import main
folder, opened = sys.argv[1], []
def hook(event, arguments):
    # An open of the library io has a mode; what it then asks of the system is an event without one.
    if event == "open" and arguments[1] and str(arguments[0]).startswith(folder):
        opened.append(arguments[0])
sys.addaudithook(hook)
for words in json.loads(sys.argv[2]):
    opened.clear()
    start = time.perf_counter()
    result = CliRunner().invoke(main, words)
    seconds = time.perf_counter() - start
    print(json.dumps([result.exit_code, len(opened), seconds, len(result.output), result.output[-300:]]))
"""


def counted(home: Path, *commands: str) -> list[tuple[int, int, float, int, str]]:
    words = json.dumps([command.split() for command in commands])
    done = subprocess.run([sys.executable, "-c", COUNTING, str(home), words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def check(home: Path, number: int, seconds: tuple[float, float]) -> None:
    many(store.user_dir(), number)
    out = home.parent
    names = counted(
        home,
        "info net-17", "info dgcnn", "info dgcnn.shapes", "download net-17", "download net-18 --to " + str(out / "to"),
        "remove net-19 --yes", f"publish {out / 'public'} net-20", f"bundle net-21 -o {out / 'b.zip'}",
        "cache list", "predict net-22 absent.off",
    )  # fmt: skip
    assert [code for code, *_ in names] == [0] * 9 + [2], names
    for _, opened, took, length, _ in names:
        assert opened <= 6
        assert took < seconds[0]
        assert length < 3000
    (code, opened, took, length, _), (refused, _, _, short, _) = counted(home, "list", "info absent")
    assert (code, refused) == (0, 2)
    assert opened == number - 1  # each card once, but for the removed one
    assert took < seconds[1]
    assert length < 200 * number
    assert short < 2000


def test_a_name_costs_one_card_and_the_list_each_card_once(home: Path) -> None:
    """Ten times what it takes on a quiet machine: seconds here only find what reads everything several times."""
    check(home, 1000, (5, 10))


@pytest.mark.slow
def test_five_thousand_entries(home: Path) -> None:
    check(home, 5000, (5, 15))


def test_a_child_names_its_parent_for_one_card_more(home: Path) -> None:
    many(store.user_dir(), 50)
    terms = replace(plain("a.shapes").licences, parent="unknown")
    make(store.user_dir(), "child.shapes", parent="net-7.shapes", licences=terms)
    (code, opened, *_), = counted(home, "info child")  # fmt: skip
    assert (code, opened) == (0, 2)


def test_a_question_about_removal_reads_as_cards_only_those_of_children(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(store.user_dir(), 50)
    terms = replace(plain("a.shapes").licences, parent="unknown")
    for number in range(30):
        make(store.user_dir(), f"child{number}.shapes", parent="net-7.shapes", licences=terms)
    read = []
    real = Card.from_json
    monkeypatch.setattr(Card, "from_json", lambda text: read.append(text) or real(text))
    result = CliRunner().invoke(main, ["remove", "net-7"], input="n")
    assert "they are compared with what goes: child0.shapes, child1.shapes, " in result.stderr
    assert ", ... (10 more)\n" in result.stderr
    assert len(read) == 30 + 2  # the entry's own card, which holds its name


def test_a_name_of_a_mirror_costs_its_index_and_one_card(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.parent / "theirs"
    many(folder, 300)
    write_index(folder)
    asked = []
    real = mirrors.download_bytes
    monkeypatch.setattr(
        mirrors, "download_bytes", lambda base, name, **how: asked.append(name) or real(base, name, **how)
    )
    assert zoo.info("net-7", mirror=folder).name == "net-7.shapes"
    assert asked == ["index.json", "net-7.shapes.json"]


def test_an_unknown_name_on_a_mirror_of_a_hundred_thousand_is_answered_in_a_few_lines(home: Path) -> None:
    folder = home.parent / "theirs"
    folder.mkdir()
    (folder / "index.json").write_bytes(mirrors.index_bytes(f"net-{number}.shapes" for number in range(100_000)))
    start = time.perf_counter()
    for words in (["info", "zzz"], ["download", "net-77777.shape"]):
        result = CliRunner().invoke(main, [*words, "--mirror", str(folder)])
        assert result.exit_code == 2
        assert len(result.output) < 2000
    assert "did you mean net-77777.shapes" in result.output
    assert time.perf_counter() - start < 30  # 3 s on a quiet machine


@pytest.mark.parametrize(
    "broken", ["{", "[" * 100_000, '{"a":' * 980 + "1" + "}" * 980, '{"name": "' + "x" * 2_000_000]
)
def test_hundreds_of_broken_cards_give_a_few_short_warnings(
    broken: str, caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    store.cache_dir().mkdir(parents=True)
    (store.cache_dir() / "net-0.shapes.json").write_text(broken)
    for number in range(1, 100):
        os.link(store.cache_dir() / "net-0.shapes.json", store.cache_dir() / f"net-{number}.shapes.json")
    assert zoo.list_models() == ["shipped.shapes"]
    assert len(caplog.records) == entries._WARNINGS + 1
    assert len(caplog.text) < 500 * len(caplog.records)
    with pytest.raises(ZooError, match="no model 'net-5' in the zoo"):
        zoo.info("net-5")


@pytest.mark.parametrize("item", ["{}", "[]", "1e1", '"a.json"', "[" * 50 + "]" * 50])
def test_an_index_of_millions_of_items_is_refused_before_they_take_memory(
    item: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home.parent / "theirs"
    parsed: list[int] = []
    folder.mkdir()
    items = f"{item}," * min(1 << 20, (1 << 23) // len(item))
    (folder / "index.json").write_text(f'{{"schema": 1, "cards": [{items}"a.json"]}}')
    monkeypatch.setattr(mirrors, "parse_json", lambda text: parsed.append(len(text)) or {})
    with pytest.raises(ZooError, match="has more items than a mirror's index can have"):
        zoo.download("net", mirror=folder)
    assert max(parsed, default=0) < 1000  # of others


@pytest.mark.parametrize("text", ["{}", "[[]]", "[" * 990 + "]" * 990, '{"schema":' + "[" * 980 + "]" * 980 + "}",
                                  '{"schema": 1, "cards":' + '{"a":' * 900 + "1" + "}" * 901,
                                  '{"schema": 1, "cards": ["' + "x" * 4_000_000 + '"]}',
                                  '{"schema": "' + "x" * 4_000_000 + '", "cards": []}'])  # fmt: skip
def test_an_index_of_any_depth_and_length_is_refused_in_a_sentence(text: str, home: Path) -> None:
    folder = home.parent / "theirs"
    folder.mkdir()
    (folder / "index.json").write_text(text)
    with pytest.raises(ZooError) as caught:
        zoo.download("net", mirror=folder)
    assert len(str(caught.value)) < 500
    (folder / ".publishing.json").write_text(text)
    (folder / "index.json").unlink()
    assert store.publish(folder).new == ["shipped.shapes"]


# -- parents -------------------------------------------------------------------------------------------------


def line_of_parents(number: int, *, ring: bool = False, file: bool = False) -> dict[str, Card]:
    terms = replace(plain("a.shapes").licences, parent="unknown")
    cards = {}
    for index in range(number):
        name, parent = f"n{index}.shapes", f"n{(index - 1) % number}.shapes"
        fields: dict[str, object] = {"parent": parent, "licences": terms} if index or ring else {}
        if file:
            fields["file"] = File(name=f"{name}-00000000.safetensors", size=9, sha256="0" * 64)
        cards[name] = plain(name, **fields)
    return cards


@pytest.mark.parametrize("ring", [False, True])
def test_thousands_of_parents_are_listed_once_each_in_lines_of_usual_length(ring: bool) -> None:
    cards = line_of_parents(2000, ring=ring)
    lines = card_table(cards, ["name", "parent"]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"n{number}.shapes" for number in range(2000)]
    assert max(map(len, lines)) < 80
    assert lines[3].startswith("    n2.shapes")


def test_thousands_of_parents_on_the_command_line(home: Path) -> None:
    store.user_dir().mkdir(parents=True)
    for card in line_of_parents(1300, file=True).values():
        (store.user_dir() / f"{card.name}.json").write_text(card.to_json())
    for words in (["list"], ["info", "n1299"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.exception


# -- a home that cannot be read ------------------------------------------------------------------------------


@pytest.fixture(params=["denied", "too long", "a file", "a ring", "nobody's"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A ZOO_HOME of which nothing can be read, and what the system says of it."""
    place, reason = tmp_path / "unreadable", ""
    if request.param == "denied":
        place.mkdir(0o000)
        reason = "Permission denied"
        if os.access(place, os.R_OK):
            pytest.skip("nothing is denied to the superuser")
    elif request.param == "too long":
        place, reason = tmp_path / ("x" * 300), "File name too long"
    elif request.param == "a file":
        place.write_text("")  # nothing can lie in it, and nothing does
    elif request.param == "a ring":
        place.symlink_to(place)
        reason = "Too many levels of symbolic links"
    else:
        place, reason = Path("~nobody-of-that-name/x"), "home directory"
    monkeypatch.setenv("ZOO_HOME", str(place))
    folders.warn_once.cache_clear()
    return reason


def test_shipped_entries_are_had_all_the_same(unreadable: str, caplog: pytest.LogCaptureFixture) -> None:
    card = store.read_card(store.package_dir() / "shipped.shapes.json")
    assert zoo.list_models() == ["shipped.shapes"]
    for name in ("shipped", "shipped.shapes"):
        assert zoo.info(name) == store.find(name) == card
        assert zoo.download(name) == store.package_dir() / card.saved.name
    for words in (
        ["list"],
        ["info", "shipped"],
        ["download", "shipped", "--json"],
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    assert len(caplog.records) == (0 if not unreadable else 1 if unreadable == "home directory" else 2)
    assert all(unreadable in record.getMessage() for record in caplog.records)


def test_what_needs_the_home_says_that_it_cannot_be_had(unreadable: str, tmp_path: Path) -> None:
    make(tmp_path / "theirs", "net.shapes")
    write_index(tmp_path / "theirs")
    for call in (
        lambda: zoo.info("absent"),
        lambda: zoo.download("net", mirror=tmp_path / "theirs"),
        lambda: store.copy_entry(next(store.package_dir().glob("*.safetensors")), zoo.info("shipped")),
    ):
        with pytest.raises(ZooError):
            call()
    for words in (["cache", "list"], ["cache", "verify"], ["remove", "absent"], ["cache", "clean"]):
        assert CliRunner().invoke(main, words).exit_code in (0, 1, 2)
        assert not isinstance(CliRunner().invoke(main, words).exception, OSError)
