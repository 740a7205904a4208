"""Names, cards, indices and checkpoints as nobody would write them: read as they are, or refused with one sentence.

A few hundred cases each; ZOO_LONG_TESTS=1 makes ten thousand of them.
"""

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from store_entries import plain

import zoo
from zoo import checkpoint, models
from zoo.cards import Card, File, names
from zoo.errors import ZooError
from zoo.store import mirrors

CASES = 10_000 if os.environ.get("ZOO_LONG_TESTS") else 200
many = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z0-9._-]{1,30}", fullmatch=True) | st.text(max_size=30)
GOOD = json.loads(
    plain("net.shapes", file=File(name="net.shapes-00000000.safetensors", size=9, sha256="0" * 64)).to_json()
)


@many
@given(NAMES)
def test_a_name_is_split_and_put_together_again_or_refused(text: str) -> None:
    try:
        name = names.parse_name(text)
    except ZooError:
        return
    assert str(name) == text
    assert names.parse_name(str(name)) == name
    path = Path("folder") / f"{text}.json"
    assert path.parent == Path("folder")
    assert ".." not in text
    assert os.sep not in text


@many
@given(NAMES, st.lists(NAMES.filter(bool), max_size=5))
def test_a_name_means_a_known_one_or_nothing(text: str, known: list[str]) -> None:
    try:
        meant = names.resolve_name(text, known)
    except ZooError:
        return
    assert meant in known


@st.composite
def changed_cards(draw: st.DrawFn) -> Any:
    """A good card with something else at one place, or without it, or with more."""
    card = json.loads(json.dumps(GOOD))
    place: Any = card
    while True:
        key = draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        break
    what = draw(st.sampled_from(["other", "gone", "more"]))
    if what == "gone":
        del place[key]
    else:
        place[key if what == "other" else draw(st.text(max_size=10))] = draw(JSON)
    return card


@many
@given(changed_cards())
def test_a_changed_card_is_read_as_it_is_or_refused(card: Any) -> None:
    try:
        read = Card.from_json(json.dumps(card))
    except ZooError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
    if message:
        return
    again = Card.from_json(read.to_json())
    assert again == read
    assert again.to_json() == read.to_json()
    assert read.name == card["name"]
    assert read.saved.name == card["file"]["name"]
    assert Path(read.saved.name).name == read.saved.name


@many
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_are_a_card_or_an_index_by_chance(data: bytes) -> None:
    with pytest.raises(ZooError):
        Card.from_json(data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "index.json").write_bytes(data)
        with pytest.raises(ZooError):
            mirrors.fetch_index(folder)


MODEL = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
HEADER = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}, "widths": {"hidden1": 7, "hidden2": 4}}
CHECKPOINT = save(dict(MODEL.state_dict()), {"zoo": json.dumps(HEADER)})
(LENGTH,) = struct.unpack("<Q", CHECKPOINT[:8])


def loaded(data: bytes) -> torch.nn.Module | None:
    """The network, or None where it was refused with a sentence; anything else is an error of ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        path.write_bytes(data)
        try:
            return zoo.get(path)
        except ZooError:
            return None


@many
@given(st.integers(0, 8 + LENGTH - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_gives_the_network_or_a_sentence(at: int, other: bytes) -> None:
    model = loaded(CHECKPOINT[:at] + other + CHECKPOINT[at + len(other) :])
    if model is not None:
        assert sum(parameter.numel() for parameter in model.parameters()) < 1000


@many
@given(JSON)
def test_a_header_that_says_anything_gives_a_sentence(said: Any) -> None:
    assert loaded(save(dict(MODEL.state_dict()), {"zoo": json.dumps(said)})) is None


@many
@given(st.sampled_from(sorted(HEADER)), JSON)
def test_a_header_that_says_something_else_gives_the_network_or_a_sentence(key: str, said: Any) -> None:
    model = loaded(save(dict(MODEL.state_dict()), {"zoo": json.dumps({**HEADER, key: said})}))
    if model is not None:
        assert model(torch.zeros(2, 5)).shape == (2, 3)


@many
@given(st.integers(0, len(CHECKPOINT) - 1))
def test_half_a_checkpoint_is_refused(length: int) -> None:
    assert loaded(CHECKPOINT[:length]) is None


@many
@given(st.binary(max_size=300))
def test_no_bytes_are_weights_by_chance(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("w.pt", "w.safetensors"):
            (Path(folder) / name).write_bytes(data)
            with pytest.raises(ZooError):
                checkpoint.read_state(Path(folder) / name)
