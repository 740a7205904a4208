"""What a command sees of an entry that another process replaces or removes at the worst moment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from store_entries import make, plain, visible, write_index

import zoo
from zoo import checkpoint, models, store
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.file_entry import load_entry
from zoo.store import bundles, entries, local_path, mirrors, publishing, removal, transaction
from zoo.store import store as by_name
from zoo.workflows import RunOptions, save_entry
from zoo.workflows import save as saving

NAME = "net.shapes"


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5).eval()


def at_first_call(patch: pytest.MonkeyPatch, place: object, name: str, act: Callable[[], object]) -> None:
    """Before `place.name` is called for the first time, another process does something."""
    call, todo = getattr(place, name), [act]

    def called(*args: object, **kwargs: object) -> object:
        if todo:
            todo.pop()()
        return call(*args, **kwargs)

    patch.setattr(place, name, called)


# -- readers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["name", "folder", "entry"])
def test_a_network_that_is_replaced_between_being_found_and_being_read_is_the_new_one(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_entry(network(0), plain(NAME))
    new = network(1)
    at_first_call(monkeypatch, checkpoint, "load", lambda: save_entry(new, plain(NAME), overwrite=True))
    x = torch.randn(4, 5)
    got, card = load_entry("net") if way == "entry" else (zoo.get("net" if way == "name" else store.user_dir()), None)
    assert torch.equal(got(x), new(x))
    assert card in (None, zoo.info("net"))


def test_a_network_that_is_removed_meanwhile_is_no_entry_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    card = save_entry(network(0), plain(NAME))
    at_first_call(monkeypatch, checkpoint, "load", lambda: store.remove(card))
    with pytest.raises(ZooError, match="no model 'net'"):
        zoo.get("net")


def test_an_entry_that_is_replaced_before_its_checkpoint_is_looked_for_is_not_asked_of_a_mirror(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(store.user_dir(), NAME, b"old" * 400)
    new = make(tmp_path / "new", NAME, b"new" * 400)
    source = tmp_path / "new" / new.saved.name
    at_first_call(
        monkeypatch, by_name, "verified_path", lambda: store.copy_entry(source, new, overwrite=True)
    )  # fmt: skip
    assert store.fetch(NAME, mirror=str(mirror)) == (store.user_dir() / new.saved.name, new)


def test_a_card_that_is_removed_after_the_folder_was_listed_needs_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = make(store.user_dir(), NAME)
    make(store.user_dir(), "other.shapes")
    at_first_call(monkeypatch, entries, "read_card", lambda: store.remove(card))
    assert zoo.list_models() == ["other.shapes"]
    assert caplog.text == ""


def test_an_entry_that_is_published_anew_while_it_is_downloaded_comes_as_it_is_now(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = []

    def publish_anew() -> None:
        next(mirror.glob("net.shapes-*")).unlink()
        new.append(make(mirror, NAME, b"new" * 400))
        write_index(mirror)

    at_first_call(monkeypatch, mirrors, "download_file", publish_anew)
    path, card = store.fetch(NAME, mirror=str(mirror))
    assert card == new[0]
    assert path.read_bytes() == b"new" * 400
    assert visible(store.cache_dir()) == sorted([path.name, f"{NAME}.json"])


def test_a_checkpoint_that_comes_or_goes_is_not_a_second_one_of_its_folder() -> None:
    card = make(store.user_dir(), NAME)
    coming = store.user_dir() / f"{NAME}-01234567.safetensors"
    coming.write_bytes(b"x")
    assert store.checkpoint_at(store.user_dir()) == (store.user_dir() / card.saved.name, card)
    (store.user_dir() / "other-01234567.safetensors").write_bytes(b"x")
    with pytest.raises(ZooError, match="holds 2 checkpoints"):
        store.checkpoint_at(store.user_dir())


def test_a_checkpoint_whose_card_is_replaced_before_it_is_read_is_not_one_without_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store.user_dir(), NAME, b"old" * 400)
    new: list[Card] = []  # the old checkpoint is still there, as just before its removal
    at_first_call(
        monkeypatch, local_path, "read_card", lambda: new.append(make(store.user_dir(), NAME, b"new" * 400))
    )  # fmt: skip
    path, card = store.checkpoint_at(store.user_dir())
    assert card == new[0]
    assert path.name == card.saved.name


@pytest.mark.parametrize("command", ["bundle", "publish", "to"])
def test_what_is_carried_away_while_it_is_replaced_is_the_new_one(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(store.user_dir(), NAME, b"old" * 400)
    new = make(tmp_path / "new", NAME, b"new" * 400)
    source, replaced = tmp_path / "new" / new.saved.name, store.copy_entry

    def replace() -> None:
        replaced(source, new, overwrite=True)

    if command == "bundle":
        at_first_call(monkeypatch, bundles, "_opened", replace)
        (card,) = store.bundle([NAME], tmp_path / "out.zip")
        got = store.download(NAME, to=tmp_path / "got", mirror=str(tmp_path / "out.zip"))
        assert got.read_bytes() == b"new" * 400
    else:
        place = publishing if command == "publish" else by_name
        at_first_call(monkeypatch, place, "copy_entry", replace)
        if command == "publish":
            assert store.publish(tmp_path / "out").new == [NAME]
        else:
            store.download(NAME, to=tmp_path / "out")
        card = store.read_card(tmp_path / "out" / f"{NAME}.json")
        store.verify_file(tmp_path / "out" / card.saved.name, card)
    assert card == new


# -- writers -------------------------------------------------------------------------------------------------


def test_an_entry_that_was_replaced_after_the_question_is_kept(tmp_path: Path) -> None:
    shown = make(store.user_dir(), NAME, b"old" * 400)
    new = make(tmp_path, NAME, b"new" * 400)
    store.copy_entry(tmp_path / new.saved.name, new, overwrite=True)
    with pytest.raises(ZooError, match=r"net\.shapes was replaced meanwhile and is kept: zoo info net\.shapes"):
        store.remove(shown)
    assert zoo.info("net") == new
    assert len(store.remove(new)) == 2
    assert store.remove(new) == []


def test_an_entry_that_comes_or_goes_while_its_name_is_looked_up_is_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Card] = []
    at_first_call(monkeypatch, removal, "resolve_name", lambda: made.append(make(store.user_dir(), NAME)))
    assert store.user_entries([NAME]) == made
    at_first_call(monkeypatch, removal, "read_card", lambda: store.remove(made[0]))
    with pytest.raises(ZooError, match=r"no model 'net\.shapes': another process has removed it"):
        store.user_entries([NAME])


def test_what_a_living_process_is_about_to_write_is_not_cleaned() -> None:
    coming = store.cache_dir() / f"{NAME}-01234567.safetensors"
    half = store.cache_dir() / f".{coming.name}.from-01234567.part"
    store.cache_dir().mkdir(parents=True)
    with transaction.entry_lock(store.cache_dir(), NAME):
        for path in (coming, half):
            path.write_bytes(b"x")
        assert store.clean_cache(everything=True) == []
        assert coming.exists()
        assert half.exists()
    assert {item.name for item in store.clean_cache(everything=True)} == {coming.name, half.name}
    assert list(store.cache_dir().iterdir()) == []


def test_an_equal_entry_is_left_as_it_is_in_a_folder_without_write_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make(tmp_path / "to", NAME)

    def refused(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zoo.utils.locks._take", refused)
    make(store.user_dir(), NAME)
    assert store.download(NAME, to=tmp_path / "to") == tmp_path / "to" / card.saved.name
    assert zoo.list_models() == [NAME]
    other = make(store.user_dir(), NAME, b"other" * 400)
    with pytest.raises(ZooError, match=r"cannot write .*to.net\.shapes\.json: Permission denied"):
        store.copy_entry(store.user_dir() / other.saved.name, other, tmp_path / "to", overwrite=True)


def test_a_full_disk_keeps_nobody_from_removing_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    card = make(store.user_dir(), NAME)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert len(store.remove(card)) == 2
    assert visible(store.user_dir()) == []


def test_a_failure_leaves_the_entry_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make(store.user_dir(), NAME)
    new = make(tmp_path, NAME, b"new" * 400)
    before = visible(store.user_dir())
    for number in range(3):  # the note, the checkpoint, the card
        left, replace = [number], os.replace

        def failing(source: str, target: str, left: list[int] = left, replace: Callable[..., None] = replace) -> None:
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            left[0] -= 1
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing)
            with pytest.raises(ZooError, match="No space left on device"):
                store.copy_entry(tmp_path / new.saved.name, new, overwrite=True)
        assert sorted(os.listdir(store.user_dir())) == before
    assert zoo.info("net") == old


def test_a_finished_network_whose_name_is_taken_at_the_last_moment_gets_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = network(0)
    evaluation = SimpleNamespace(correct=3, total=4, cross_entropy=1.0)
    counts = SimpleNamespace(parameters=89, macs=80, macs_paper=80)
    monkeypatch.setattr(saving, "measure", lambda *_, **__: SimpleNamespace(evaluation=evaluation, counts=counts))
    test = SimpleNamespace(num_classes=3, classes=("a", "b", "c"), sample_shape=(5,))
    splits = SimpleNamespace(spec=SimpleNamespace(test_name="test", dataset="shapes"), test=test, holdout=None)
    draft = saving.EntryDraft(NAME, "mlp", {"command": f"zoo train mlp --name {NAME}"}, {"in_features": 5})
    theirs: list[Card] = []
    at_first_call(monkeypatch, saving, "save_entry", lambda: theirs.append(make(store.user_dir(), NAME)))
    result = saving.finish_entry(model, draft, splits, RunOptions(name=NAME), torch.device("cpu"))  # type: ignore[arg-type]
    assert result.card.name == "net-2.shapes"
    assert result.card.recipe["command"] == "zoo train mlp --name net-2.shapes"
    assert zoo.info(NAME) == theirs[0]
    assert zoo.info("net-2.shapes") == result.card
    assert re.search("net.shapes was taken while this command ran: the network is saved as net-2.shapes", caplog.text)
