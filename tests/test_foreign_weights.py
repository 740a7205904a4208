"""Weights as people have them: of any ending, wrapped, prefixed, with numbers of NumPy, in shards; and what is none."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo import checkpoint, models
from zoo.cli import main
from zoo.convert import convert, read_weights
from zoo.errors import ZooError

State = dict[str, Tensor]


def mlp(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5).state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, ["convert", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(path: Path, **options: Any) -> str:
    """The sentence that a file is refused with."""
    with pytest.raises(ZooError) as error:
        convert(path, arch="mlp", out=path.parent / "out.safetensors", **options)
    assert "\n" not in str(error.value)
    assert not (path.parent / "out.safetensors").exists()
    return str(error.value)


@pytest.mark.parametrize("name", ["w.t7", "best.pth.tar", "w.ckpt", "w.bin", "w.pt", "w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_the_content_decides_and_not_the_ending(name: str, kind: str, tmp_path: Path) -> None:
    state = mlp()
    if kind == "safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    assert equal(checkpoint.read_state(tmp_path / name), state)


NUMBERS = {
    "instance_acc": np.float64(0.9),
    "class_acc": np.float32(0.87),
    "epoch": np.int64(3),
    "half": np.float16(1.5),
    "done": np.bool_(True),
    "history": np.arange(6.0).reshape(2, 3),
    "empty": np.zeros((0, 3), np.int32),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_numpy_beside_the_weights_are_read(zipped: bool, core: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save({**NUMBERS, "model_state_dict": mlp()}, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as the other version of NumPy names its module: the text has to be as long
        text = path.read_bytes()
        new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
        path.write_bytes(text.replace(*((new, old) if core == "core" else (old, new))))
    assert equal(checkpoint.read_state(path), mlp())


def test_numbers_and_arrays_of_numpy_have_their_values(tmp_path: Path) -> None:
    from zoo.checkpoint.numpy_pickles import Array
    from zoo.checkpoint.pickled import read_pickled

    columns = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    torch.save({**NUMBERS, "columns": columns}, tmp_path / "w.pth")
    read = read_pickled(tmp_path / "w.pth")
    for name, value in {**NUMBERS, "columns": columns}.items():
        if isinstance(value, np.ndarray):
            assert isinstance(read[name], Array)
            np.testing.assert_array_equal(read[name].value.numpy(), value)
            assert read[name].value.numpy().dtype == value.dtype
        else:
            assert read[name] == value.item()
    state = {name: tensor.numpy() for name, tensor in mlp().items()}
    torch.save(state, tmp_path / "arrays.pth")  # arrays are weights as well
    assert equal(checkpoint.read_state(tmp_path / "arrays.pth"), mlp())


class Reduced:
    """Pickles as the call of a function with arguments, and a state."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


SCALAR = np.float64(1).__reduce__()[0]
RECONSTRUCT = np.zeros(1).__reduce__()[0]


@pytest.mark.parametrize(
    "value",
    [
        Reduced(SCALAR, (np.dtype("O"), b"\0" * 8)),
        Reduced(SCALAR, (np.dtype([("a", "f8")]), b"\0" * 8)),
        Reduced(SCALAR, (np.dtype("f8"), b"\0")),
        Reduced(SCALAR, (np.dtype(">f8"), b"\0" * 8)),
        Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**9, 10**9), np.dtype("f4"), False, b"\0" * 4)),
        Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, [print])),
        Reduced(RECONSTRUCT, (Namespace, (0,), b"b")),
    ],
)
def test_a_hostile_number_of_numpy_is_refused(value: Any, tmp_path: Path) -> None:
    torch.save({"acc": value, "model": mlp()}, tmp_path / "w.pth")
    assert "cannot be read as weights" in refused(tmp_path / "w.pth")


class Settings:
    """A class of somebody's training script."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "where", "advice"),
    [
        ({"model": 1, "args": Settings()}, "under the key `args` ", "if k != 'args'}"),
        ({"model": 1, "hyper": {"list": [1, (Settings(),)]}}, "under the key `hyper.list` ", "if k != 'hyper'}"),
        (OrderedDict(model=1, args=Settings), "under the key `args` ", "if k != 'args'}"),
        ({"model": Settings()}, "under the key `model` ", "['model'].state_dict()"),
        (Settings(), "it holds a whole model of the class", ".state_dict()"),
    ],
)
def test_another_class_is_named_with_its_key(
    content: Any, where: str, advice: str, zipped: bool, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    sentence = refused(tmp_path / "w.pth")
    assert f"{Settings.__module__}.Settings" in sentence
    assert where in sentence
    assert advice in sentence


def test_the_settings_of_argparse_are_no_obstacle_and_what_the_sentence_says_to_type_works(tmp_path: Path) -> None:
    torch.save({"model": mlp(), "args": Namespace(lr=0.1)}, tmp_path / "w.pth")
    assert equal(checkpoint.read_state(tmp_path / "w.pth"), mlp())
    (tmp_path / "script.py").write_text("class Config:\n    pass\n")
    make = (
        "import script, torch; s = torch.load('w.pth', weights_only=False); s['config'] = script.Config(); "
        "torch.save(s, 'c.pth')"
    )
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    sentence = refused(tmp_path / "c.pth")
    assert "the class script.Config under the key `config` stands in the way" in sentence
    subprocess.run(sentence.partition("save the weights alone there: ")[2].replace("python", sys.executable, 1),
                   shell=True, cwd=tmp_path, check=True)  # fmt: skip
    assert equal(checkpoint.read_state(tmp_path / "weights.pth"), mlp())


def test_looking_for_a_key_runs_nothing_and_takes_no_memory(tmp_path: Path) -> None:
    target = tmp_path / "boom"
    torch.save({"model": 1, "log": Reduced(Path.touch, (target,))}, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "under the key `log`" in sentence
    assert not target.exists()
    # A memo index of 2^32 - 2, and a byte array of 2^40 bytes, before the class.
    for code in (b"r\xfe\xff\xff\xff", b"\x96" + (1 << 40).to_bytes(8, "little")):
        body = b"\x80\x02}" + code + b"X\x04\x00\x00\x00argscscript\nConfig\n)\x81s."
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
            for name, data in (("data.pkl", body), ("version", b"3\n"), ("byteorder", b"little")):
                archive.writestr(f"m/{name}", data)
        assert "cannot be read as weights" in refused(tmp_path / "m.pth")


def zip_of(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty (0 bytes): its download or copy did not finish, fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7028812\n",
            "it is a Git-LFS pointer (132 bytes): `git lfs pull` in its repository brings the file",
        ),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page (HTML)"),
        (b"\n  <html><body>Quota exceeded</body></html>", "it is a web page (HTML)"),
        (b"404: Not Found", "it is a text that begins with '404: Not Found'"),
        (b'{"error": "gone"}', "it is a JSON text"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 40, "it is compressed (gzip)"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "it is an HDF5 file"),
        (b"\x04\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00V 1", "it is of Lua Torch"),
        (lambda path: zip_of(path, "README.md", "w.pth"), "it is a zip archive without a file of torch.save"),
        (lambda path: torch.jit.script(nn.Linear(2, 2)).save(str(path)), "it is a TorchScript program"),
        (lambda path: path.mkdir(), "is a folder: give the file of weights in it"),
    ],
)
def test_what_is_no_file_of_weights_is_named(
    content: bytes | Callable[[Path], Any], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    if callable(content):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is of yesterday
            content(path)
    else:
        path.write_bytes(content)
    result = run(path, "--arch", "mlp", "-o", tmp_path / "out.safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr
    assert str(path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_it_is_named_without_torch(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    code = (
        "import sys; from zoo.cli import main\n"
        "try: main(['convert', 'w.pth', '--arch', 'mlp', '-o', 'o.safetensors'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n", result.stderr


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(mlp(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        data = (tmp_path / "w.pth").read_bytes()
        (tmp_path / "w.pth").write_bytes(data[: len(data) // 2])
        assert "fetch it again" in refused(tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert "a pickle that torch.save did not write" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("wrap", "key", "others"),
    [
        *((lambda a, b, k=k: {k: a, "epoch": 3}, k, ()) for k in ("state_dict", "model_state_dict", "model", "net")),
        *((lambda a, b, k=k: {"model": b, k: a}, k, ("model",)) for k in ("ema", "model_ema", "state_dict_ema")),
        (lambda a, b: {"model": {"state_dict": a, "epoch": 3}}, "model.state_dict", ()),
        (lambda a, b: {"ema": None, "model": a}, "model", ()),
        (lambda a, b: {"ema": {"decay": 0.9, "module": a}, "state_dict": b}, "ema.module", ("state_dict",)),
        (lambda a, b: {**a, "epoch": 3, "arch": "mlp"}, "", ()),
    ],
)
def test_wrapped_weights_are_found_and_what_was_taken_is_said(
    wrap: Callable[[State, State], Any], key: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    ours, theirs = mlp(0), mlp(1)
    torch.save(wrap(ours, theirs), tmp_path / "w.bin")
    found = read_weights(tmp_path / "w.bin", "mlp")
    assert equal(found.state, ours)
    assert (found.key, found.others) == (key, others)
    for other in others:
        assert equal(read_weights(tmp_path / "w.bin", "mlp", key=other).state, theirs)
        result = run(tmp_path / "w.bin", "--arch", "mlp", "-o", tmp_path / "out.safetensors", "--overwrite")
        assert f"those under the key {key}; --key {other} takes the others" in result.stdout
        words = ("--arch", "mlp", "-o", tmp_path / "out.safetensors", "--overwrite", "--json", "--key", other)
        assert json.loads(run(tmp_path / "w.bin", *words).stdout)["key"] == other
        assert equal(checkpoint.load(tmp_path / "out.safetensors").state_dict(), theirs)  # type: ignore[arg-type]


def test_an_unknown_key_is_answered_with_the_keys_that_there_are(tmp_path: Path) -> None:
    torch.save({"weird": mlp(), "epoch": 3, "deep": {"er": mlp()}}, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "its keys are weird (6 tensors), epoch, deep; `zoo convert --key weird` takes those" in sentence
    assert equal(read_weights(tmp_path / "w.pth", "mlp", key="weird").state, mlp())
    assert equal(read_weights(tmp_path / "w.pth", "mlp", key="deep.er").state, mlp())
    assert "has no key none: its keys are weird (6 tensors)" in refused(tmp_path / "w.pth", key="none")
    torch.save([1], tmp_path / "w.pth")
    assert "found a list" in refused(tmp_path / "w.pth")
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")
    assert "holds no weights" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module.module.", "_orig_mod.module.model.", "net.", "encoder.q."]
)
def test_prefixes_repeated_and_nested_are_removed(prefix: str, tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed(prefix, mlp())}, tmp_path / "w.ckpt")
    assert equal(read_weights(tmp_path / "w.ckpt", "mlp").state, mlp())


def test_prefixes_inside_a_name_and_counters_of_averages(tmp_path: Path) -> None:
    parts = {name.replace("hidden1.", "hidden1._orig_mod."): tensor for name, tensor in mlp().items()}
    torch.save({**prefixed("module.", parts), "n_averaged": torch.tensor(3)}, tmp_path / "w.pt")
    assert equal(read_weights(tmp_path / "w.pt", "mlp").state, mlp())


def test_a_network_whose_own_names_begin_alike_keeps_them(tmp_path: Path) -> None:
    own = prefixed("model.", mlp())
    torch.save(prefixed("module.", own), tmp_path / "w.pt")
    found = checkpoint.read_weights_file(tmp_path / "w.pt", expected=own)
    assert equal(found.state, own)


def sharded(folder: Path, ending: str) -> Path:
    state, places = mlp(), {}
    names = sorted(state)
    for i, part in enumerate((names[:3], names[3:]), 1):
        file = f"model-{i:05}-of-00002.{ending}"
        tensors = {name: state[name] for name in part}
        if ending == "bin":
            torch.save(tensors, folder / file)
        else:
            save_file(tensors, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(ending: str, tmp_path: Path) -> None:
    index = sharded(tmp_path, ending)
    assert equal(read_weights(index, "mlp").state, mlp())
    first = tmp_path / f"model-00001-of-00002.{ending}"
    assert f"is one of 2 files that together are the weights: give their index instead, {index}" in refused(first)
    assert f"give the file of weights in it, as {index}" in _folder_sentence(tmp_path)
    first.unlink()
    assert f"lists {first.name}, which is not beside it: fetch all 2 files" in refused(index)


def _folder_sentence(folder: Path) -> str:
    with pytest.raises(ZooError) as error:
        checkpoint.read_state(folder)
    return str(error.value)


@pytest.mark.parametrize("file", ["../w.pth", "/etc/passwd", "", "..", "a\\b"])
def test_an_index_leads_nowhere_else(file: str, tmp_path: Path) -> None:
    torch.save(mlp(), tmp_path / "w.pth")
    (tmp_path / "in").mkdir()
    index = tmp_path / "in" / "w.index.json"
    index.write_text(json.dumps({"weight_map": {"out.bias": file}}))
    assert "the files of an index lie beside it" in refused(index)
    index.write_text(json.dumps({"weight_map": {"out.bias": "w.index.json"}}))
    assert "is an index where the weights were expected" in refused(index)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_not_finite_are_refused_with_the_name(value: float, kind: str, tmp_path: Path) -> None:
    state = mlp()
    state["hidden2.weight"][1, 2] = value
    torch.save(state, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert f"the tensor hidden2.weight of {tmp_path / 'w.pth'} has 1 of 28 numbers that are not finite" in sentence
    assert f"({kind})" in sentence


def test_a_tensor_that_claims_any_size_takes_no_memory(tmp_path: Path) -> None:
    torch.save({**mlp(), "out.weight": torch.zeros(1, 1).expand(10**11, 4)}, tmp_path / "w.pth")
    assert "100000000000 classes are too many" in refused(tmp_path / "w.pth")
    torch.save({**mlp(), "hidden2.bias": torch.zeros(1).expand(10**12)}, tmp_path / "w.pth")
    assert "hidden2.bias is [1000000000000] there and [4] in the model" in refused(tmp_path / "w.pth")


def test_other_kinds_of_tensors_are_named(tmp_path: Path) -> None:
    nothing = torch.empty(3, 4, device="meta")
    for tensor, kind in ((mlp()["out.weight"].to_sparse(), "sparse"), (nothing, "without numbers")):
        torch.save({**mlp(), "out.weight": tensor}, tmp_path / "w.pth")
        assert f"the tensor out.weight of {tmp_path / 'w.pth'} is {kind}" in refused(tmp_path / "w.pth")


def test_names_that_do_not_fit_are_shown_with_the_closest_network(tmp_path: Path) -> None:
    with torch.device("meta"):
        pointnet = models.build("pointnet", num_classes=10).state_dict()
        resnet = models.build("resnet34").state_dict()
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in pointnet.items()}
    torch.save(state, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "it has bn1.bias, bn1.running_mean, bn1.running_var and " in sentence
    assert "mlp needs hidden1.bias, hidden1.weight, hidden2.bias and 3 more, which it has not" in sentence
    assert sentence.endswith("the closest network is pointnet (all names fit): that is `arch=pointnet`")
    assert "say with --arch" not in sentence
    # Another variant of the network that was named: a ResNet50, by its names.
    deeper = {**resnet, **{f"layer1.{i}.conv3.weight": torch.zeros(1) for i in range(5)}}
    torch.save({name: torch.zeros(1) for name in deeper}, tmp_path / "w.pth")
    with pytest.raises(ZooError, match="resnet34 is the closest network all the same, so that"):
        convert(tmp_path / "w.pth", arch="resnet34", out=tmp_path / "out.safetensors")
    torch.save({f"layer{i}": torch.zeros(1) for i in range(9)}, tmp_path / "w.pth")
    assert "no network of the zoo has such names; the closest is " in refused(tmp_path / "w.pth")
    ema = {"model": mlp(), "ema": {f"layer{i}": torch.zeros(1) for i in range(9)}}
    torch.save(ema, tmp_path / "w.pth")
    remark = "the weights under ema were taken; `zoo convert --key model` takes the others"
    assert refused(tmp_path / "w.pth").endswith(remark)
