"""Folders of one's own the whole way: a new head, pruning, counting, predicting; and what does not fit."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from own_files import write_images, write_shapes
from small_zoo import made, run
from store_entries import plain

import zoo
from zoo import checkpoint, models, store
from zoo.datasets import load
from zoo.workflows import DataSpec, save_entry
from zoo.workflows import training as training_module

CPU = ["--device", "cpu"]


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "Boxes & more")


def test_the_whole_way_on_shapes(home: Path, boxes: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["finetune", "dgcnn-0.25x", "--dataset", "folder", "--data-dir", boxes, "--epochs", "2", *CPU]
    card = made(*words)["card"]
    assert "was made for 20 classes: linear3.bias, linear3.weight start anew for 2" in caplog.text
    assert card["name"] == "dgcnn-0.25x-finetuned.boxes-more"
    assert (card["num_classes"], card["classes"], card["sample_shape"]) == (2, ["flat", "tall"], [3, 24])
    assert (card["parent"], card.get("parent_accuracy"), card["forward"]) == ("dgcnn-0.25x.shapes", None, [])
    assert card["accuracy"]["total"] == 4  # a fifth of the ten files of each class
    assert card["recipe"]["data_dir"] == boxes.name
    assert str(boxes.parent) not in json.dumps(card)
    assert card["licences"]["data"] == "not stated (your own data)"
    assert card["licences"]["parent"] == store.info("dgcnn-0.25x").licences.weights
    # Its command makes it again, where the folder is.
    command = shlex.split(card["recipe"]["command"])
    assert command[command.index("--data-dir") + 1] == boxes.name
    again = made(*[str(boxes) if word == boxes.name else word for word in command[1:]], *CPU, "--no-resume")["card"]
    assert again["file"] == card["file"]
    page = run("info", card["name"]).output
    assert "2 classes of the folder Boxes & more" in page
    assert "classes: flat, tall\n" in page
    assert f"{store.info('dgcnn-0.25x').accuracy.correct}/60" not in page  # on other data: nothing to compare with

    words = ["--target-macs", "0.5", "--method", "l1", "--samples", "16", "--data-dir", boxes, *CPU]
    pruned = made("reprune", card["name"], *words)["card"]
    assert pruned["name"].startswith("dgcnn-pruned-")
    assert pruned["name"].endswith(".boxes-more")
    assert pruned["classes"] == ["flat", "tall"]
    assert pruned["macs"] <= card["macs"] / 2
    assert pruned["parent_accuracy"]["correct"] == card["accuracy"]["correct"]
    assert zoo.get(pruned["name"]).classes == ("flat", "tall")
    text = run("reprune", card["name"], *words, "--overwrite").stdout
    assert f"zoo reprune {card['name']} --target-macs 0.15 --data-dir 'Boxes & more'\n" in text

    counted = run("eval", pruned["name"], "--data-dir", boxes, *CPU).output
    assert f"{pruned['accuracy']['correct']} of 4 on the test split of the folder Boxes & more" in counted
    test = load("folder", "test", data_dir=boxes, points=24)
    files = [path for path, _ in test.samples]
    predicted = made("predict", pruned["name"], *files, *CPU)["files"]
    right = sum(record["classes"][0]["index"] == label for record, (_, label) in zip(predicted, test, strict=True))
    assert right == pruned["accuracy"]["correct"]
    logits = zoo.get(pruned["name"])(test[0][0][None])[0].detach()
    first = {guess["index"]: guess["probability"] for guess in predicted[0]["classes"]}
    assert [first[0], first[1]] == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)


def test_training_on_images_and_on_the_form_of_an_entry(empty_home: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "colours", "{split}/{name}/{file}")
    words = ["--data-dir", root, "--epochs", "1", *CPU]
    card = made("train", "vgg11", "--dataset", "folder", "--width", "0.05", "--size", "32", *words)["card"]
    assert (card["name"], card["classes"]) == ("vgg11-0.05x.colours", ["blue", "red"])
    assert card["accuracy"]["total"] == 4
    spec = DataSpec(dataset="folder", data_dir=root)
    entry = store.info("vgg11-0.05x")
    for changes in (DataSpec(data_dir=root), spec):
        assert DataSpec.of(entry, changes).size == 32
    other = plain("net.imagenette", dataset="imagenette", sample_shape=(3, 48, 48), recipe={
        "command": "zoo train", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "validation": 0.1
    })  # fmt: skip
    form = DataSpec.of(other, spec)
    assert (form.size, form.mean, form.std, form.validation) == (48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), None)


def test_a_new_head_is_drawn_by_the_seed_and_all_else_is_kept(home: Path) -> None:
    path, card = store.fetch("dgcnn-0.25x")
    before = zoo.get("dgcnn-0.25x").state_dict()
    state = torch.get_rng_state()

    def head(classes: int, seed: int = 0) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return checkpoint.load(path, num_classes=classes, new_head=True).state_dict()

    same_size = head(20)  # other classes, by chance as many
    changed = [name for name, tensor in same_size.items() if not tensor.equal(before[name])]
    assert changed == ["linear3.weight", "linear3.bias"]
    assert head(20)["linear3.weight"].equal(same_size["linear3.weight"])
    assert not head(20, seed=1)["linear3.weight"].equal(same_size["linear3.weight"])
    assert head(3)["linear3.weight"].shape == (3, 256)
    assert card.num_classes == 20
    assert torch.get_rng_state().equal(state)


def test_as_many_classes_of_other_names_get_a_new_head_and_the_same_ones_keep_theirs(
    home: Path, boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--dataset", "folder", "--epochs", "1", *CPU]
    first = made("finetune", "dgcnn-0.25x", "--data-dir", boxes, *words)["card"]
    asked = []
    load_checkpoint = checkpoint.load
    monkeypatch.setattr(
        training_module.checkpoint, "load",
        lambda *given, **more: asked.append(more.get("new_head")) or load_checkpoint(*given, **more),
    )  # fmt: skip
    made("finetune", first["name"], "--data-dir", boxes, "--epochs", "1", "--name", "more.boxes", *CPU)
    assert not any(asked)
    asked.clear()
    renamed = tmp_path / "renamed"
    boxes.rename(renamed)
    (renamed / "flat").rename(renamed / "board")
    child = made("finetune", first["name"], "--data-dir", renamed, "--epochs", "1", *CPU)["card"]
    assert any(asked)
    assert child["classes"] == ["board", "tall"]
    for command in (["eval"], ["reprune", "--eps", "0.1"]):
        result = run(command[0], first["name"], "--data-dir", renamed, *command[1:], *CPU)
        assert result.exit_code == 2
        assert "tells other classes apart than the folder renamed: it has board instead of flat" in result.stderr


def test_a_run_on_other_files_of_the_same_name_starts_anew(home: Path, tmp_path: Path) -> None:
    one, two = (DataSpec(dataset="folder", data_dir=write_shapes(tmp_path / n / "data")) for n in "ab")
    assert one.folder == two.folder == "data"
    assert one.identity() == two.identity()
    (tmp_path / "b" / "data" / "flat" / "flat0.off").unlink()
    assert one.identity() != two.identity()
    assert DataSpec(dataset="shapes").identity() == {}


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("Stühle 2024", "st-hle-2024"), ("3d", "folder-3d"), ("modelnet10", "folder-modelnet10"), ("椅子", "folder")],
)
def test_names_of_folders_become_names_of_entries(tmp_path: Path, folder: str, suffix: str) -> None:
    (tmp_path / folder).mkdir()
    spec = DataSpec(dataset="folder", data_dir=tmp_path / folder)
    assert (spec.folder, spec.suffix, spec.title) == (folder, suffix, f"the folder {folder}")
    assert DataSpec(dataset="shapes", data_dir=tmp_path).suffix == "shapes"


def test_what_does_not_fit_is_said_at_once(home: Path, boxes: Path, tmp_path: Path) -> None:
    colours = write_images(tmp_path / "colours")
    for words, message in (
        (["train", "dgcnn"], "the data set 'folder' is a folder of your own: give it with --data-dir DIR"),
        (["train", "dgcnn", "--data-dir", tmp_path / "absent"], "absent is no folder"),
        (["train", "dgcnn", "--data-dir", colours], "dgcnn takes point clouds"),
        (["finetune", "dgcnn-0.25x", "--data-dir", colours], "colours holds images: it can take folder, modelnet10"),
        (["train", "vgg11", "--data-dir", colours, "--points", "8"], "holds images, so --points does not apply"),
        (["train", "dgcnn", "--data-dir", boxes, "--mean", "0", "0", "0"], "holds shapes, so --mean does not apply"),
        (["train", "dgcnn", "--data-dir", boxes, "--points", "0"], "a cloud needs 1 point or more, not 0"),
        (["eval", "dgcnn-0.25x", "--data-dir", boxes], "tells 20 classes apart, but the folder Boxes & more has 2"),
    ):
        result = run(*words, "--dataset", "folder", *CPU)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
    result = run("finetune", "dgcnn-0.25x", "--dataset", "folder", "--data-dir", boxes, "--distil", "0.5", *CPU)
    assert result.exit_code == 2
    (boxes / "flat" / "flat0.off").write_text("OFF\n3 1 0\n0 0 0\n")
    result = run("finetune", "dgcnn-0.25x", "--dataset", "folder", "--data-dir", boxes, *CPU)
    assert result.exit_code == 2
    assert "flat0.off is no readable OFF mesh" in result.stderr


def test_many_classes_are_left_out_of_the_card(empty_home: Path) -> None:
    from zoo.workflows.save import _names_on_card

    assert _names_on_card("folder", ["a", "b"]) == ("a", "b")
    assert _names_on_card("shapes", ["x"] * 20) is None  # the data set has them
    assert _names_on_card("folder", [str(i) for i in range(1001)]) is None
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    assert save_entry(model, plain("net.shapes", classes=("a", "b", "c"))).classes == ("a", "b", "c")
