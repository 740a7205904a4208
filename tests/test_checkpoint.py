"""Checkpoints: what is loaded equals what was saved, and every way in which a file can be wrong or half is refused."""

import errno
import hashlib
import json
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo import checkpoint, models
from zoo.errors import ZooError

ARCH: dict[str, Any] = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}}


def net(seed: int = 0, **widths: int) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4, **widths}, in_features=5)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A place for a checkpoint; whatever a test does, no half file may lie beside it."""
    yield tmp_path / "net.safetensors"
    assert not list(tmp_path.glob(".*"))


def test_what_is_loaded_equals_what_was_saved(path: Path) -> None:
    model = net()
    size, sha256 = checkpoint.save(model, path, **ARCH)
    assert (size, sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    loaded = checkpoint.load(path)
    x = torch.randn(6, 5)
    assert torch.equal(loaded(x), model(x))
    assert loaded.widths == {"hidden1": 7, "hidden2": 4}
    assert not loaded.training
    assert model.training  # saving changed nothing


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = {checkpoint.save(net(), tmp_path / f"{i}.safetensors", **ARCH)[1] for i in range(5)}
    assert len(hashes) == 1
    assert checkpoint.save(net(seed=1), tmp_path / "other.safetensors", **ARCH)[1] not in hashes


def test_the_header_is_json_that_says_what_to_build(path: Path) -> None:
    checkpoint.save(net(), path, **ARCH)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["zoo"]) == {**ARCH, "widths": {"hidden1": 7, "hidden2": 4}}


def test_shared_and_strided_tensors_are_saved(path: Path) -> None:
    model = net(hidden1=4, hidden2=4)
    model.hidden2.bias = model.hidden1.bias
    model.hidden2.weight = nn.Parameter(torch.randn(4, 8)[:, ::2].t())
    checkpoint.save(model, path, **ARCH)
    loaded, x = checkpoint.load(path), torch.randn(2, 5)
    assert torch.equal(loaded.hidden1.bias, loaded.hidden2.bias)
    torch.testing.assert_close(loaded(x), model(x))


def test_half_precision_weights_load_into_a_network_in_single_precision(path: Path) -> None:
    checkpoint.save(net().half(), path, **ARCH)
    loaded = checkpoint.load(path)
    assert loaded.out.weight.dtype == torch.float32
    assert torch.equal(loaded.out.weight, net().half().out.weight.float())


def test_a_model_without_widths_cannot_be_saved(path: Path) -> None:
    with pytest.raises(ZooError, match="Linear cannot be saved: it has no `widths`"):
        checkpoint.save(nn.Linear(2, 2), path, **ARCH)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden1.weight": torch.zeros(8, 5)}, "hidden1.weight is [8, 5] there and [7, 5] in the model"),
        ({"hidden1.weight": torch.zeros(7), "out.bias": torch.zeros(9)}, "hidden1.weight is [7] there"),
        ({"hidden2.bias": None}, "hidden2.bias [4] is missing"),
        ({"extra.weight": torch.zeros(2, 1)}, "extra.weight [2, 1] is not part of the model"),
        ({"a": torch.zeros(1), "out.bias": None}, "a [1] is not part of the model (and 1 more)"),
    ],
)
def test_weights_that_do_not_fit_name_the_first_tensor(change: dict[str, torch.Tensor | None], reason: str) -> None:
    state = {name: tensor for name, tensor in {**net(seed=1).state_dict(), **change}.items() if tensor is not None}
    model = net()
    with pytest.raises(ZooError, match=r"the weights of my\.pth do not fit MLP") as caught:
        checkpoint.load_weights(model, state, source="my.pth")
    assert reason in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), net().parameters(), strict=True))


def test_counters_of_batches_may_be_absent() -> None:
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source(torch.randn(9, 3))
    state = source.state_dict()
    del state["num_batches_tracked"]
    checkpoint.load_weights(target, state, source="an old file")
    assert torch.equal(target.running_var, source.running_var)


def test_a_checkpoint_whose_header_and_tensors_differ_is_refused(path: Path) -> None:
    header = {**ARCH, "widths": {"hidden1": 6, "hidden2": 4}}
    save_file(net().state_dict(), path, {"zoo": json.dumps(header)})
    with pytest.raises(ZooError, match=re.escape("hidden1.bias is [7] there and [6] in the model")):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "does not say which network"),
        ("{", "does not say which network"),
        ("[]", "must hold arch"),
        (json.dumps({**ARCH, "widths": [1]}), r"widths in its header is \[1\], expected dict"),
        (json.dumps({**ARCH, "widths": {}, "run": "rm"}), "must hold arch"),
        (json.dumps({**ARCH, "widths": {}, "arch": "mpl"}), "mlp"),
        (json.dumps({**ARCH, "widths": {"hidden9": 3}}), "hidden9"),
        (json.dumps({**ARCH, "widths": {"hidden1": "x"}}), "no network that can be built"),
        (json.dumps({**ARCH, "widths": {}, "options": {"depth": 3}}), "depth"),
    ],
)
def test_a_header_that_builds_nothing_is_refused(path: Path, header: str | None, reason: str) -> None:
    save_file(net().state_dict(), path, None if header is None else {"zoo": header})
    with pytest.raises(ZooError, match=reason):
        checkpoint.load(path)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("-inf"), "infinite")])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_not_finite_do_not_load_without_a_word(
    path: Path, value: float, kind: str, half: bool
) -> None:
    model = net()
    model.hidden2.weight.data[1, 2] = value
    checkpoint.save(model.half() if half else model, path, **ARCH)
    with pytest.raises(ZooError, match=rf"hidden2.weight of .* has 1 of 28 numbers that are not finite \({kind}\)"):
        checkpoint.load(path)


def test_damaged_files_are_refused(path: Path) -> None:
    with pytest.raises(ZooError, match="there is no file"):
        checkpoint.load(path)
    checkpoint.save(net(), path, **ARCH)
    whole = path.read_bytes()
    damaged = "not a safetensors file, or a damaged one"
    for content, reason in (
        (b"", r"it is empty \(0 bytes\)"),
        (b"<html>not found</html>", r"it is a web page \(HTML\)"),
        *((data, damaged) for data in (whole[:20], whole[:-1], whole + b"x", b"\xff" * 64)),
    ):
        path.write_bytes(content)
        for read in (checkpoint.load, checkpoint.read_state):
            with pytest.raises(ZooError, match=reason):
                read(path)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_training_scripts_are_read(tmp_path: Path, wrap: Any, prefix: str) -> None:
    state = net().state_dict()
    torch.save(wrap({prefix + name: tensor for name, tensor in state.items()}), tmp_path / "net.pth")
    read = checkpoint.read_state(tmp_path / "net.pth")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_safetensors_of_others_are_read(path: Path) -> None:
    save_file(net().state_dict(), path)
    assert checkpoint.read_state(path).keys() == net().state_dict().keys()


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_nothing_that_is_read_can_run_code(tmp_path: Path) -> None:
    target = tmp_path / "boom"
    torch.save({"weight": Bomb(target)}, tmp_path / "bomb.pth")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(target)))
    torch.save(net(), tmp_path / "whole.pt")
    (tmp_path / "noise.pt").write_bytes(b"\x80\x02noise")
    for name in ("bomb.pth", "plain.pt", "whole.pt", "noise.pt"):
        with pytest.raises(ZooError, match="cannot be read as weights"):
            checkpoint.read_state(tmp_path / name)
    assert not target.exists()


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    with pytest.raises(ZooError, match="holds no weights"):
        checkpoint.read_state(tmp_path / "epoch.pt")
    with pytest.raises(ZooError, match="there is no file"):
        checkpoint.read_state(tmp_path / "none.pt")


def test_a_device_that_is_not_there_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    checkpoint.save(net(), path, **ARCH)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(ZooError, match="0 CUDA devices"):
            checkpoint.load(path, device=device)
    with pytest.raises(ZooError, match="'gpu' is not a device"):
        checkpoint.load(path, device="gpu")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_saving_leaves_the_file_before(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    checkpoint.save(net(), path, **ARCH)
    before = path.read_bytes()

    def fail(handle: int) -> None:
        raise failure

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((ZooError, KeyboardInterrupt)) as caught:
        checkpoint.save(net(seed=1), path, **ARCH)
    assert isinstance(caught.value, KeyboardInterrupt) or "No space left on device; nothing was" in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises((ZooError, KeyboardInterrupt)):
        checkpoint.save(net(seed=1), path.with_name("new.safetensors"), **ARCH)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is POSIX's")
def test_a_full_disk_for_real(path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(ZooError, match=r"cannot write .*nothing was written"):
            checkpoint.save(net(), path, **ARCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(path.parent.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ZooError, match="cannot write"):
        checkpoint.save(net(), tmp_path / "file" / "net.safetensors", **ARCH)


SAVER = """
import sys
import torch
from zoo import checkpoint, models
path, n = sys.argv[1], 0
while True:
    n += 1
    torch.manual_seed(n)
    model = models.build("mlp", num_classes=3, in_features=2000)
    checkpoint.save(model, path, arch="mlp", num_classes=3, options={"in_features": 2000})
    print(n, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")
def test_kill_minus_nine_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.0371)
        process.send_signal(signal.SIGKILL)
        saved = 1 + len(process.stdout.readlines())
    loaded = checkpoint.load(path)
    for seed in (saved, saved + 1):  # the last one may have had its name but not said so
        torch.manual_seed(seed)
        whole = models.build("mlp", num_classes=3, in_features=2000)
        if torch.equal(whole.hidden1.weight, loaded.hidden1.weight):
            return
    raise AssertionError(f"the file holds none of the networks {saved} and {saved + 1}")


def test_a_network_without_inputs_is_refused(path: Path) -> None:
    header = {**ARCH, "options": {"in_features": 0}, "widths": {"hidden1": 7, "hidden2": 4}}
    save_file(net().state_dict(), path, {"zoo": json.dumps(header)})
    with pytest.raises(ZooError, match=r"a network in which hidden1\.weight has no numbers"):
        checkpoint.load(path)
