"""Cards and names of any depth and length: refused with one short sentence, and quickly."""

import json
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest
from store_entries import plain

from zoo.cards import MAX_NAME_LENGTH, Card, File, json_schema, parse_name, resolve_name
from zoo.display import card_page, card_table
from zoo.errors import ZooError, suggest
from zoo.utils import parse_json

LONGEST_MESSAGE = 600  # characters: the names of all fields are 200 of them
GOOD = json.loads(
    plain("net.shapes", file=File(name="net.shapes-00000000.safetensors", size=9, sha256="0" * 64)).to_json()
)


def refusal(text: str) -> str:
    with pytest.raises(ZooError) as caught:
        Card.from_json(text)
    assert len(str(caught.value)) < LONGEST_MESSAGE
    return str(caught.value)


def nested(depth: int, kind: str) -> str:
    return "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("depth", [2, 60, 70, 200, 330, 480, 900, 990, 1000, 3000, 100_000])
def test_no_depth_exhausts_the_stack(depth: int, kind: str) -> None:
    text = nested(depth, kind)
    refusal(text)
    for field in ("classes", "recipe", "parent", "sample_shape", "schema", "file"):
        refusal(json.dumps({**GOOD, field: "HERE"}).replace('"HERE"', text))


def test_a_depth_that_is_allowed_is_read() -> None:
    assert parse_json(nested(60, "list")) == json.loads(nested(60, "list"))
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(nested(70, "object"))


LONG = "x" * 4_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"name": LONG}, {"arch": LONG}, {"dataset": LONG}, {"parent": LONG}, {"classes": ["a", "b", LONG]},
        {"options": {"a": LONG}}, {"options": {LONG: 1}}, {"widths": {LONG: 1}}, {LONG: 1}, {"schema": LONG},
        {"recipe": {"command": LONG}}, {"recipe": {"command": "zoo", "a": [LONG]}}, {"sample_shape": LONG},
        {"file": {**GOOD["file"], "name": f"{LONG}.safetensors"}}, {"file": {**GOOD["file"], "sha256": LONG}},
        {"licences": {**GOOD["licences"], "data": LONG}}, {"accuracy": {**GOOD["accuracy"], "split": LONG}},
        {"options": {f"a{i}": 1 for i in range(1001)}}, {"widths": {f"a{i}": 1 for i in range(200_000)}},
    ],
    ids=lambda changes: next(iter(changes))[:20],
)  # fmt: skip
def test_a_field_of_megabytes_is_refused_in_one_sentence(changes: dict[str, Any]) -> None:
    refusal(json.dumps({**GOOD, **changes}))


@pytest.mark.parametrize("field", ["arch", "dataset", "device", "dtype", "mode", "torch", "split", "sha256", "name"])
def test_what_is_repeated_in_a_message_or_a_table_is_short(field: str) -> None:
    """A text that a card may hold is not one that a line of a table may."""
    card = json.loads(json.dumps(GOOD))
    timing = {"device": "cpu", "torch": "2", "batch": 1, "dtype": "float32", "mode": "eager", "median_ms": 1.0}
    card["forward"] = [{**timing, "device": "cuda: X"}]
    places = [card, card["forward"][0], card["accuracy"], card["file"]]
    next(place for place in reversed(places) if field in place)[field] = "cuda" + "x" * 9000
    refusal(json.dumps(card))


def test_type_hints_are_read_once_for_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(json_schema, "get_type_hints", lambda kind: counted.append(kind) or get_type_hints(kind))
    json_schema._fields_of.cache_clear()
    json_schema._reader.cache_clear()
    text = json.dumps(GOOD)
    for _ in range(100):
        Card.from_json(text)
    assert len(counted) == len(set(counted)) <= 1 + len(fields(Card))


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "con", "nul.shapes", "aux", "prn.modelnet10", "com1.shapes", "lpt9", "com0.a.b", "a.", "net.shapes.", "x.json",
        "x.safetensors", "x.pt", "x.pth.tar", "x.bin", "index",
    ],
)  # fmt: skip
def test_names_that_are_kept_for_other_files_are_refused(text: str) -> None:
    with pytest.raises(ZooError, match="cannot be a model name"):
        parse_name(text)


@pytest.mark.parametrize("text", ["con-v2", "nul-net.shapes", "com10", "connet.aux", "index.shapes", "json", "x.tarot"])
def test_names_that_only_look_so_are_names(text: str) -> None:
    assert str(parse_name(text)) == text


def test_a_name_of_megabytes_is_refused_in_one_sentence() -> None:
    for text in (LONG, "/" * 4_000_000, "x" * (MAX_NAME_LENGTH + 1)):
        with pytest.raises(ZooError, match="at most 120 are allowed") as caught:
            parse_name(text)
        assert len(str(caught.value)) < 200


def test_an_unknown_name_among_a_hundred_thousand_is_answered_in_a_few_lines() -> None:
    names = [f"net-{number}.shapes" for number in range(100_000)]
    for text, answer in (("zzz", "known are: net-0, "), ("nett-77777", "did you mean net-77777")):
        with pytest.raises(ZooError, match=answer) as caught:
            resolve_name(text, names)
        assert len(str(caught.value)) < 1000


def test_few_choices_are_all_named_and_of_many_the_first() -> None:
    assert suggest("?", "cab") == "known are: a, b, c"
    listed = suggest("?", map(str, range(100, 200)))
    assert listed.startswith("known are: 100, 101, ")
    assert listed.endswith("139, ... (60 more)")


def test_a_long_choice_is_cut() -> None:
    assert len(suggest("?", [LONG, "b"])) < 300
    assert len(suggest(LONG[:9999], [LONG[:10_000]])) < 300


def test_long_terms_of_use_make_no_long_lines_in_a_list_and_are_whole_on_the_page() -> None:
    file = File(name="net.shapes-00000000.safetensors", size=9, sha256="0" * 64)
    terms = replace(plain("net.shapes").licences, weights="free " * 1000)
    card = plain("net.shapes", licences=terms, file=file)
    assert max(map(len, card_table({"a": card}, ["licence", "name"]).splitlines())) < 220
    assert ("free " * 1000).strip() in card_page(card, {})


def test_few_of_many_choices_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    import difflib

    compared = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda text, choices, **how: compared.extend(choices))
    suggest("abc", (f"abc{number}" for number in range(50_000)))
    assert len(compared) == 1000
