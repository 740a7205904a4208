"""A finished network is saved under its name, or under the next one that is free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_entries import make

from zoo import store
from zoo.cards import MAX_NAME_LENGTH
from zoo.errors import ZooError
from zoo.workflows import RunOptions
from zoo.workflows.run import check_name, free_name

MINE, THEIRS = "zoo reprune net.shapes --eps 0.1", "zoo reprune net.shapes --eps 0.2"
NAME = "net-pruned-0.24m.shapes"


def test_another_commands_entry_stays_and_a_number_follows_before_the_data_set(empty_home: Path) -> None:
    run = RunOptions()
    assert free_name(NAME, MINE, run) == (NAME, False)
    make(store.user_dir(), NAME, recipe={"command": THEIRS, "recovery": 0})
    assert free_name(NAME, MINE, run) == ("net-pruned-0.24m-2.shapes", False)
    make(store.user_dir(), "net-pruned-0.24m-2.shapes", recipe={"command": THEIRS, "recovery": 0})
    assert free_name(NAME, MINE, run) == ("net-pruned-0.24m-3.shapes", False)
    assert free_name("net", MINE, run) == ("net", False)  # a name without a data set


def test_the_same_command_replaces_what_it_made(empty_home: Path) -> None:
    make(store.user_dir(), NAME, recipe={"command": THEIRS, "recovery": 0})
    make(store.user_dir(), "net-pruned-0.24m-2.shapes", recipe={"command": MINE, "recovery": 0})
    assert free_name(NAME, THEIRS, RunOptions()) == (NAME, True)
    assert free_name(NAME, MINE, RunOptions()) == ("net-pruned-0.24m-2.shapes", True)
    assert free_name(NAME, MINE, RunOptions(overwrite=True)) == (NAME, True)


def test_a_shipped_entry_and_a_card_that_cannot_be_read_are_left_alone(empty_home: Path, tmp_path: Path) -> None:
    make(store.package_dir(), NAME, recipe={"command": MINE, "recovery": 0})
    for run in (RunOptions(), RunOptions(overwrite=True)):
        assert free_name(NAME, MINE, run)[0] == "net-pruned-0.24m-2.shapes"
    assert free_name(NAME, MINE, RunOptions(output_dir=tmp_path / "out")) == (NAME, False)
    make(store.user_dir(), "other.shapes")
    (store.user_dir() / "other.shapes.json").write_text(json.dumps({"schema": 2}))
    assert free_name("other.shapes", MINE, RunOptions()) == ("other-2.shapes", False)


def test_the_longest_name_gets_its_number_too(empty_home: Path) -> None:
    longest = "n" * (MAX_NAME_LENGTH - len(".shapes")) + ".shapes"
    make(store.user_dir(), longest, recipe={"command": THEIRS, "recovery": 0})
    name, _ = free_name(longest, MINE, RunOptions())
    assert (len(name), name[-10:]) == (MAX_NAME_LENGTH, "n-2.shapes")


def test_a_name_that_was_typed_is_refused_before_the_work(empty_home: Path) -> None:
    make(store.user_dir(), NAME, recipe={"command": THEIRS, "recovery": 0})
    with pytest.raises(ZooError, match=r"has an entry net-pruned-0.24m.shapes already, made by `zoo reprune"):
        check_name(NAME, MINE, RunOptions(name=NAME))
