"""A converted file takes the place of an entry's name in every command; `zoo convert --add` makes an entry of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_zoo import SMALL, made, run

import zoo
from zoo import checkpoint, models, store
from zoo.convert import convert
from zoo.errors import ZooError
from zoo.file_entry import _name, card_of_file, find_entry
from zoo.workflows import bench_entries

DATA = ["--dataset", "shapes", *SMALL]


@pytest.fixture
def file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of the zoo's small entry, converted from a file of a training script, in the current folder."""
    monkeypatch.chdir(tmp_path)
    state = {f"module.{name}": tensor for name, tensor in zoo.get("dgcnn-0.25x").state_dict().items()}
    torch.save({"state_dict": state}, "best.t7")
    convert("best.t7", arch="dgcnn", out="a.safetensors")
    return tmp_path / "a.safetensors"


def test_info_eval_and_get_take_a_file_like_an_entry(file: Path) -> None:
    entry, card = zoo.info("dgcnn-0.25x"), made("info", "./a.safetensors")
    same = ("arch", "num_classes", "widths", "parameters", "options")
    assert {key: card[key] for key in same} == {key: json.loads(entry.to_json())[key] for key in same}
    assert (card["name"], card["dataset"], card["sample_shape"]) == ("a", "unknown", [3, 1024])
    assert "one input is 3 x 1024" in run("info", "./a.safetensors").stdout
    counted = made("eval", "./a.safetensors", "--dataset", "shapes", "--points", 24, "--device", "cpu")
    assert entry.accuracy is not None
    assert counted["accuracy"]["correct"] == entry.accuracy.correct
    assert counted["name"] == "a"
    x = torch.randn(2, 3, 24)
    for path in ("./a.safetensors", "a.safetensors", file, "./."):
        assert torch.equal(zoo.get(path)(x), zoo.get("dgcnn-0.25x")(x))


def test_predict_takes_a_file_and_asks_for_its_data_set(file: Path) -> None:
    (file.parent / "cloud.xyz").write_text("\n".join(f"{i % 7} {i % 5} {i % 3}" for i in range(40)))
    result = run("predict", "./a.safetensors", "cloud.xyz")
    assert result.exit_code == 2
    assert "a does not say which data set it was trained on: name it with --dataset NAME" in result.stderr
    found = made("predict", "./a.safetensors", "cloud.xyz", "--dataset", "shapes", "--device", "cpu")["files"][0]
    assert {guess["name"] for guess in found["classes"]} <= {*(zoo.info("dgcnn-0.25x").class_names or ())}
    result = run("predict", "./a.safetensors", "cloud.xyz", "--dataset", "modelnet40")
    assert (result.exit_code, "a tells 20 classes apart, but modelnet40 has 40" in result.stderr) == (2, True)


def test_bench_and_export_take_files(file: Path) -> None:
    shutil.copy(file, file.with_name("b.safetensors"))
    (file.parent / "in").mkdir()
    shutil.copy(file, file.parent / "in" / "a.safetensors")
    paths = ["./a.safetensors", "b.safetensors", "in/a.safetensors"]
    assert list(bench_entries(paths, batch=1, repeats=1).records) == paths
    exported = made("export", "./a.safetensors", "--format", "torchscript")
    assert exported["path"] == "a.torchscript.pt"
    assert Path("a.torchscript.pt").exists()


def test_what_is_made_of_a_file_is_an_entry_whose_command_makes_it_again(file: Path) -> None:
    words = ["--eps", "0.5", "--method", "l1", "--samples", "8"]
    pruned = made("reprune", "./a.safetensors", *words, *DATA)["card"]
    assert pruned["parent"] == "a"
    assert pruned["name"].startswith("dgcnn-pruned-")
    assert pruned["name"].endswith(".shapes")
    assert pruned["recipe"]["command"].startswith("zoo reprune ./a.safetensors --eps 0.5 ")
    assert pruned["recipe"]["parent_sha256"] == card_of_file(file).saved.sha256
    assert pruned["licences"]["parent"] == "unknown"
    tuned = made("finetune", file, "--epochs", "1", *DATA)["card"]
    assert (tuned["name"], tuned["parent"]) == ("a-finetuned.shapes", "a")
    assert tuned["recipe"]["command"].startswith("zoo finetune ./a.safetensors ")
    assert {pruned["name"], tuned["name"]} <= {*zoo.list_models()}


def test_a_file_that_does_not_say_its_data_set_asks_for_it(file: Path) -> None:
    for words in (["eval"], ["finetune"], ["reprune", "--eps", "0.1"]):
        result = run(words[0], "./a.safetensors", *words[1:])
        assert result.exit_code == 2
        assert "a.safetensors does not say which data set it was trained on: name it with --dataset" in result.stderr
        result = run(words[0], "./a.safetensors", *words[1:], "--dataset", "imagenet")
        assert "a.safetensors takes point clouds, imagenet holds images" in result.stderr
    result = run("eval", "./a.safetensors", "--dataset", "modelnet40", "--data-dir", ".")
    assert "tells 20 classes apart, but modelnet40 has 40" in result.stderr


def test_what_a_file_does_not_say_is_asked_for_without_torch(file: Path) -> None:
    code = (
        "import sys; from zoo.cli import main\n"
        "try: main(['eval', './a.safetensors'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n", result.stderr


def test_the_data_set_is_that_of_the_conversion_or_of_the_name(file: Path) -> None:
    convert("best.t7", arch="dgcnn", out="said.safetensors", dataset="shapes")
    shutil.copy(file, "dgcnn.shapes.safetensors")
    shutil.copy(file, "dgcnn.modelnet40.safetensors")  # has another number of classes
    shutil.copy(file, "My Net (1).safetensors")
    found = {name: find_entry(f"./{name}.safetensors")[1] for name in (
        "said", "dgcnn.shapes", "dgcnn.modelnet40", "My Net (1)"
    )}  # fmt: skip
    assert {name: (card.name, card.dataset) for name, card in found.items()} == {
        "said": ("said", "shapes"),
        "dgcnn.shapes": ("dgcnn.shapes", "shapes"),
        "dgcnn.modelnet40": ("dgcnn-modelnet40", "unknown"),
        "My Net (1)": ("my-net-1-", "unknown"),
    }
    counted = made("eval", "./said.safetensors", "--points", 24, "--device", "cpu")
    assert counted["accuracy"]["correct"] == zoo.info("dgcnn-0.25x").accuracy.correct  # type: ignore[union-attr]


def test_a_checkpoint_beside_its_card_is_the_entry(file: Path) -> None:
    path = store.download("dgcnn-0.25x", to="copy")
    assert find_entry("./copy")[1] == zoo.info("dgcnn-0.25x")
    assert find_entry(path)[1] == zoo.info("dgcnn-0.25x")


def test_convert_puts_an_entry_into_the_zoo(file: Path) -> None:
    made_of = made("convert", "best.t7", "--arch", "dgcnn", "--add", "mine.shapes")
    card = zoo.info("mine")
    assert (made_of["name"], made_of["dataset"], card.dataset) == ("mine.shapes", "shapes", "shapes")
    assert made_of["path"] == str(store.user_dir() / card.saved.name)
    assert (card.parent, card.accuracy, card.licences.weights) == (None, None, "unknown")
    assert card.recipe["command"] == "zoo convert best.t7 --arch dgcnn --dataset shapes --add mine.shapes"
    x = torch.randn(2, 3, 24)
    assert torch.equal(zoo.get("mine")(x), zoo.get("dgcnn-0.25x")(x))
    assert "mine.shapes" in run("list").stdout
    for words, sentence in (
        (["--add", "mine.shapes"], "your zoo has an entry mine.shapes already"),
        (["--add", "A/b"], "is not a model name"),
        (["--add", "mine.modelnet40"], "tells 20 classes apart, but modelnet40 has 40"),
        (["--add", "mine", "--dataset", "nothing"], "no data set is called 'nothing'"),
        ([], "say where the checkpoint goes: --out FILE.safetensors, or --add NAME"),
    ):
        result = run("convert", "best.t7", "--arch", "dgcnn", *words)
        assert result.exit_code == 2
        assert sentence in result.stderr
    again = made("convert", "best.t7", "--arch", "dgcnn", "--add", "mine.shapes", "--overwrite", "-o", "c.safetensors")
    assert again["path"] == "c.safetensors"
    assert checkpoint.read_header(Path("c.safetensors"))["dataset"] == "shapes"


def test_a_data_set_of_another_kind_is_refused_when_converting(tmp_path: Path, home: Path) -> None:
    with torch.device("meta"):
        shapes = models.build("mobilenet_v3_small", num_classes=20).state_dict()
    torch.save({name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}, tmp_path / "w.pth")
    with pytest.raises(ZooError, match=r"samples of shapes \(3 x \d+\) do not fit MobileNetV3"):
        convert(tmp_path / "w.pth", arch="mobilenet_v3_small", out=tmp_path / "o.safetensors", dataset="shapes")
    assert not (tmp_path / "o.safetensors").exists()


def test_a_file_that_is_not_converted_yet_is_answered_with_the_command(file: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, "a.pth")
    sentence = r"`zoo convert a\.pth --arch NETWORK -o a\.safetensors` makes one"
    with pytest.raises(ZooError, match=sentence):
        zoo.get("a.pth")
    result = run("eval", "a.pth")
    assert result.exit_code == 2
    assert "zoo convert a.pth --arch NETWORK -o a.safetensors" in result.stderr
    Path("page.pth").write_text("<html>")
    with pytest.raises(ZooError, match="it is a web page"):
        zoo.get("page.pth")
    with pytest.raises(ZooError, match=r"there is no file .*none\.t7"):
        zoo.get("none.t7")


def test_where_only_an_entry_will_do_a_file_is_answered_with_the_way_to_one(file: Path) -> None:
    for words in (["download", "./a.safetensors"], ["publish", "mirror", "./a.safetensors"]):
        result = run(*words)
        assert result.exit_code == 2
        assert "is a file, not the name of an entry: zoo convert FILE --arch NETWORK --add NAME" in result.stderr


@pytest.mark.parametrize(
    ("file", "name"),
    [("ema.bin.safetensors", "ema-bin"), ("Best.pth.safetensors", "best-pth"), ("a..safetensors", "a"),
     ("con.safetensors", "weights"), ("net-0123abcd.safetensors", "net")],
)  # fmt: skip
def test_a_file_is_called_by_its_own_name(file: str, name: str) -> None:
    assert _name(Path(file)) == name
