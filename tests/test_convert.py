"""Foreign weights become checkpoints: widths and classes follow from shapes, misfits are named, no code runs."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo import checkpoint, models
from zoo.cli import main
from zoo.convert import convert
from zoo.errors import ZooError
from zoo.utils import sha256_of


def narrow(arch: str, **options: Any) -> nn.Module:
    """A network with seven classes whose groups all have other widths than the dense one's."""
    with torch.device("meta"):
        dense = models.build(arch, **options)
    sizes = models.widths_of(dense)
    widths = {name: max(1, n // 16 + i % 2) for i, (name, n) in enumerate(sizes.items())}
    assert all(widths[name] < n for name, n in sizes.items())
    return models.build(arch, num_classes=7, widths=widths, **options)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, ["convert", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


@pytest.mark.parametrize("arch", models.ARCHS)
def test_classes_and_widths_of_every_narrow_network_are_found(arch: str, tmp_path: Path, out: Path) -> None:
    model = narrow(arch)
    torch.save(model.state_dict(), tmp_path / "old.pth")
    converted = convert(tmp_path / "old.pth", arch=arch, out=out)
    assert (converted.arch, converted.num_classes, converted.widths) == (arch, 7, dict(model.widths))
    assert converted.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (converted.size, converted.sha256) == (out.stat().st_size, sha256_of(out))
    state = checkpoint.load(out).state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_what_shapes_tell_of_a_builders_options_is_found(tmp_path: Path, out: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "mlp.pt")
    assert convert(tmp_path / "mlp.pt", arch="mlp", out=out).options == {"in_features": 5}
    with torch.device("meta"):  # without its weights: the hidden layers of the full head are large
        shapes = narrow("vgg11", head="full").state_dict()
    save_file({name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}, tmp_path / "vgg.safetensors")
    converted = convert(tmp_path / "vgg.safetensors", arch="vgg11", out=out, overwrite=True)
    assert converted.options == {"head": "full"}
    assert {name for name in converted.widths if name.startswith("classifier")} == {"classifier.0", "classifier.3"}
    assert checkpoint.load(out).widths == converted.widths


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_old_and_new_pickles_of_training_scripts_give_the_same_file(
    zipped: bool, wrap: Any, tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "old.pt"
    torch.save(wrap(mlp().state_dict()), path, _use_new_zipfile_serialization=zipped)
    _, expected = checkpoint.save(
        mlp(), tmp_path / "truth.safetensors", arch="mlp", num_classes=3, options={"in_features": 5}
    )
    assert convert(path, arch="mlp", out=out).sha256 == expected
    assert convert(out, arch="mlp", out=tmp_path / "again.safetensors").sha256 == expected


def test_weights_of_the_dgcnn_authors_code_are_renamed(tmp_path: Path, out: Path) -> None:
    model = narrow("dgcnn")
    theirs: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        edge, _, rest = key.partition(".")
        part, _, leaf = rest.partition(".")
        if edge.startswith("edge"):
            key = f"conv{edge[-1]}.0.{leaf}" if part == "conv" else f"bn{edge[-1]}.{leaf}"
        elif edge == "conv5":
            key = f"conv5.0.{rest}"
        theirs[f"module.{key}"] = value
    torch.save(theirs, tmp_path / "authors.t7.pth")
    assert convert(tmp_path / "authors.t7.pth", arch="dgcnn", out=out).widths == dict(model.widths)
    x = torch.randn(2, 3, 24)
    assert torch.equal(checkpoint.load(out)(x), model.eval()(x))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_holds_code_is_refused_and_the_code_does_not_run(plain: bool, tmp_path: Path, out: Path) -> None:
    target, path = tmp_path / "boom", tmp_path / "evil.pth"
    state = {**mlp().state_dict(), "out.bias": Bomb(target)}
    if plain:
        path.write_bytes(pickle.dumps(Bomb(target)))
    else:
        torch.save(state, path)
    result = run(path, "--arch", "mlp", "-o", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be read as weights" in result.stderr
    assert not target.exists()
    assert not out.exists()
    if plain:  # the code is live: whoever reads the file as Python does by itself runs it
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert target.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden2.bias": None}, "hidden2.bias [4] is missing"),
        ({"extra": torch.zeros(2)}, "extra [2] is not part of the model"),
        ({"hidden2.weight": torch.zeros(4, 9)}, "hidden2.weight is [4, 9] there and [4, 7] in the model"),
        ({"hidden1.weight": torch.zeros(101, 5)}, "hidden1 can have 1 to 100 neurons, not 101"),
        ({"hidden1.weight": torch.zeros(7)}, "hidden1.weight has the shape [7] in the file"),
        ({"out.weight": torch.zeros(0, 4)}, "out.weight has the shape [0, 4] in the file"),
        ({"out.weight": None}, "all that it has is of mlp; mlp needs out.weight, which it has not"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_tensors_name(
    change: dict[str, Tensor | None], message: str, tmp_path: Path, out: Path
) -> None:
    state = {name: tensor for name, tensor in {**mlp().state_dict(), **change}.items() if tensor is not None}
    torch.save(state, tmp_path / "old.pt")
    result = run(tmp_path / "old.pt", "--arch", "mlp", "-o", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "resnet34"], "the closest network is mlp (all names fit): that is --arch mlp"),
        (["--arch", "mpl"], "there is no network 'mpl': did you mean mlp?"),
        (["--arch", "mlp", "--num-classes", "4"], "out.bias is [3] there and [4] in the model"),
        (["--arch", "mlp", "--num-classes", "0"], "0 classes are too few"),
        (["--arch", "mlp", "--num-classes", "99999999999999999"], "classes are too many: give 1000000 at most"),
        (["--arch", "mlp", "-o", "net.pt"], "net.pt: the name of a checkpoint ends in .safetensors"),
        (["--arch", "mlp", "-o", "old.safetensors"], "old.safetensors is there already"),
    ],
)
def test_wrong_words_are_answered_in_a_sentence(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(mlp().state_dict(), "old.pt")
    Path("old.safetensors").write_bytes(b"mine")
    result = run("old.pt", "-o", "new.safetensors", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.pt", "old.safetensors"]
    assert Path("old.safetensors").read_bytes() == b"mine"


def test_numbers_in_the_place_of_names_are_no_weights(tmp_path: Path, out: Path) -> None:
    torch.save({1: torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(ZooError, match="holds no weights"):
        convert(tmp_path / "w.pt", arch="mlp", out=out)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, out: Path) -> None:
    with pytest.raises(ZooError, match=r"there is no file .*none\.pt"):
        convert(tmp_path / "none.pt", arch="mlp", out=out)


def test_the_command_prints_what_it_found(tmp_path: Path, out: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "old.pt")
    words = (tmp_path / "old.pt", "--arch", "mlp", "-o", out)
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    assert lines["network"].endswith("mlp (in_features 5)")
    assert lines["classes"].endswith(" 3")
    assert lines["widths"].endswith("hidden1 7 of 100, hidden2 4 of 100")
    assert lines["parameters"].endswith(" 89")
    assert lines["SHA-256"].endswith(sha256_of(out))
    again = run(*words, "--overwrite", "--json", "--num-classes", "3")
    converted = json.loads(again.stdout)
    assert converted["sha256"] == sha256_of(out)
    assert converted["widths"] == {"hidden1": 7, "hidden2": 4}
    assert (converted["arch"], converted["num_classes"], converted["parameters"]) == ("mlp", 3, 89)
