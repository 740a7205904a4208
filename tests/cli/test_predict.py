"""zoo predict: the classes and probabilities of the network itself, on samples as they are evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from own_files import TETRAHEDRON, box, write_images
from small_zoo import made, run
from store_entries import plain

import zoo
from zoo import models
from zoo.datasets import dataset_info, load, read_sample
from zoo.workflows import save_entry


def test_one_line_a_file_with_the_probabilities_of_the_network(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.off", tmp_path / "b.xyz"]
    files[0].write_text(TETRAHEDRON)
    files[1].write_text("\n".join(f"{i} {i % 7} {i * i % 11} 255" for i in range(50)))
    result = run("predict", "dgcnn-0.25x", *files, "--device", "cpu")
    assert result.exit_code == 0
    assert result.stderr == ""
    samples = torch.stack([read_sample(file, "shapes", (3, 24)) for file in files])
    expected = zoo.get("dgcnn-0.25x")(samples).softmax(1)
    names = dataset_info("shapes").classes
    for line, file, row in zip(result.stdout.splitlines(), files, expected, strict=True):
        best = row.argsort(descending=True)[:3].tolist()
        assert line.split() == [str(file), *" ".join(f"{names[i]} {100 * row[i]:.1f} %" for i in best).split()]
    document = made("predict", "dgcnn-0.25x", *files, "--device", "cpu", "--top", "20")
    assert document["name"] == "dgcnn-0.25x.shapes"
    for record, file, row in zip(document["files"], files, expected, strict=True):
        assert record["file"] == str(file)
        assert [c["name"] for c in record["classes"]] == [names[c["index"]] for c in record["classes"]]
        found = {c["index"]: c["probability"] for c in record["classes"]}
        assert [found[i] for i in range(20)] == pytest.approx(row.tolist(), abs=1e-5)


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_predicted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.off").write_text(box(1, 2, 3))
    (tmp_path / "b.off").write_text("OFF\n1 1 0\n")
    (tmp_path / "c.jpg").write_text("")
    words = ["predict", "dgcnn-0.25x", *(tmp_path / n for n in ("b.off", "a.off", "c.jpg", "d.off")), tmp_path]
    result = run(*words)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(tmp_path / "a.off")]
    errors = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in errors] == ["Error"] * 4
    texts = ("b.off is no readable OFF mesh", "c.jpg cannot be read: the network takes shapes", "there is no", "folder")
    for line, text in zip(errors, texts, strict=True):
        assert text in line
    document = json.loads(run(*words, "--json").stdout)
    assert ["error" in record for record in document["files"]] == [False, True, True, True, True]
    code = (
        "import sys, zoo.cli\ntry: zoo.cli.main()\n"
        "except SystemExit as ended: assert ended.code == 1 and 'torch' not in sys.modules; print('quick')"
    )
    words = [sys.executable, "-c", code, "predict", "dgcnn-0.25x", "absent.off", "a.doc"]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "quick\n"
    result = run("predict", "dgcnn-0.2x", tmp_path / "a.off")
    assert result.exit_code == 2
    assert "did you mean dgcnn-0.25x" in result.stderr


def test_images_are_prepared_as_the_test_samples_of_the_data_set(empty_home: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path, "{split}/{name}/{file}", count=5)
    file = root / "val" / "blue" / "blue4.png"  # 48 x 40
    torch.manual_seed(0)
    form = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    for dataset, recipe in (("imagenet", {}), ("imagenette", {}), ("imagenet", form)):
        widths = models.scaled_widths("vgg11", 0.1)
        model = models.build("vgg11", num_classes=5, widths=widths).eval()
        fields = {"arch": "vgg11", "dataset": dataset, "options": {}, "widths": dict(model.widths), "num_classes": 5}
        fields |= {"sample_shape": (3, 32, 32), "recipe": {"command": "zoo train", **recipe}, "classes": (*"abcde",)}
        save_entry(model, plain(f"net.{dataset}", **fields), overwrite=True)
        sample = load(dataset, "test", data_dir=root, size=32, **recipe)[0][0]
        assert read_sample(file, dataset, (3, 32, 32), **recipe).equal(sample)
        row = model(sample[None]).detach().softmax(1)[0]
        found = made("predict", f"net.{dataset}", file, "--top", "9")["files"][0]["classes"]
        assert len(found) == 5
        assert found[0]["probability"] == pytest.approx(float(row.max()), abs=1e-5)
        assert found[0]["name"] == "abcde"[int(row.argmax())]


def test_what_takes_no_files_says_so(empty_home: Path, tmp_path: Path) -> None:
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    save_entry(model, plain("net.shapes"))
    result = run("predict", "net", tmp_path / "a.off")
    assert result.exit_code == 2
    assert "net.shapes takes samples of 5: neither images nor clouds" in result.stderr
