"""zoo.get: by name or path, on a device, in a type, with another head; and what it refuses to load."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from store_entries import make, plain

import zoo
from zoo import checkpoint, models, store
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.workflows import save_entry

ROOT = Path(__file__).parent.parent
X = torch.linspace(-1, 1, 20).view(4, 5)


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


@pytest.fixture
def saved() -> tuple[torch.nn.Module, Card]:
    """A small entry of the user's own."""
    torch.manual_seed(0)
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5).eval()
    return model, save_entry(model, plain("net.shapes"))


def test_by_name_file_and_folder_it_is_the_same_network(saved: tuple[torch.nn.Module, Card], tmp_path: Path) -> None:
    model, card = saved
    file = store.user_dir() / card.saved.name
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(file, alone / "w.safetensors")
    for name in ("net", "net.shapes", file, str(file), store.user_dir(), alone, f"{alone}/w.safetensors"):
        found = zoo.get(name)
        assert not found.training
        torch.testing.assert_close(found(X), model(X), rtol=0, atol=0)


def test_a_file_is_compared_with_the_card_beside_it(saved: tuple[torch.nn.Module, Card]) -> None:
    path = store.user_dir() / saved[1].saved.name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for name in ("net", path, store.user_dir()):
        with pytest.raises(ZooError, match="is damaged"):
            zoo.get(name)


def test_paths_that_lead_to_no_single_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a.shapes", "b.shapes"):
        make(tmp_path / "two", name)
    for place, reason in (
        (tmp_path / "nothing.safetensors", "there is no file"),
        (tmp_path / "empty", "holds no checkpoint"),
        (tmp_path / "two", "holds 2 checkpoints: give one of them, as .*two.a.shapes"),
        ("./nowhere", "there is no file"),
    ):
        with pytest.raises(ZooError, match=reason):
            zoo.get(place)


def test_from_a_mirror(mirror: Path, saved: tuple[torch.nn.Module, Card], tmp_path: Path) -> None:
    public = tmp_path / "public"
    from zoo.store import publish

    publish(public)
    shutil.rmtree(store.user_dir())
    torch.testing.assert_close(zoo.get("net", mirror=str(public))(X), saved[0](X), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float64", torch.bfloat16])
def test_a_type(saved: tuple[torch.nn.Module, Card], dtype: str | torch.dtype) -> None:
    model = zoo.get("net", dtype=dtype)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    torch.testing.assert_close(model(X.to(wanted)).float(), saved[0](X), rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", ["float", "int8", "floaty", torch.int64, "nn"])
def test_what_is_no_type_for_weights(saved: tuple[torch.nn.Module, Card], dtype: str | torch.dtype) -> None:
    if dtype == "float":  # torch.float is one
        assert zoo.get("net", dtype=dtype) is not None
        return
    with pytest.raises(ZooError, match="is no type for weights: write float32"):
        zoo.get("net", dtype=dtype)


def test_another_number_of_classes_gives_a_new_head_and_says_so(
    saved: tuple[torch.nn.Module, Card], caplog: pytest.LogCaptureFixture
) -> None:
    model, old = zoo.get("net", num_classes=8), saved[0]
    assert model(X).shape == (4, 8)
    changed = [name for name, tensor in old.state_dict().items() if model.state_dict()[name].shape != tensor.shape]
    assert changed == ["out.weight", "out.bias"]
    for name, tensor in old.state_dict().items():
        assert name in changed or torch.equal(tensor, model.state_dict()[name])
    assert "was made for 3 classes: out.bias, out.weight start anew for 8" in caplog.text
    caplog.clear()
    torch.testing.assert_close(zoo.get("net", num_classes=3)(X), old(X), rtol=0, atol=0)
    assert not caplog.text
    for number in (0, -1, 10**12, True, 1.5, "10"):
        with pytest.raises(ZooError, match=r"num_classes is .*: give a whole number from 1 to"):
            zoo.get("net", num_classes=number)  # type: ignore[arg-type]


@pytest.mark.parametrize("arch", [arch for arch in models.ARCHS if arch != "mlp"])
def test_every_network_gets_a_new_head(arch: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    narrow = {group: min(n, 8) for group, n in models.build(arch, num_classes=4).widths.items()}  # type: ignore[union-attr]
    model = models.build(arch, num_classes=4, widths=narrow)
    checkpoint.save(model, tmp_path / "w.safetensors", arch=arch, num_classes=4, options={})
    other = zoo.get(tmp_path / "w.safetensors", num_classes=6)
    assert other.widths == narrow  # type: ignore[comparison-overlap]
    changed = {n for n, tensor in model.state_dict().items() if other.state_dict()[n].shape != tensor.shape}
    assert changed == {n for n in changed if n.endswith((".weight", ".bias"))}
    assert 1 <= len(changed) <= 2, changed


# -- nothing that is loaded costs what its header claims, or runs ---------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_classes": 10**12}, "out.weight is .* there and .* in the model|out.bias"),
        ({"options": {"in_features": 10**12}}, "hidden1.weight is"),
        ({"widths": {"hidden1": 7, "hidden2": 4000000}}, "can have 1 to"),
        ({"widths": {"hidden9": 7}}, "no neuron group"),
        ({"arch": "os.system"}, "no architecture"),
        ({"options": {"__class__": 1}}, "no option"),
        ({"num_classes": "3"}, "expected int"),
        ({"num_classes": -3}, "needs 1 or more"),
        ({"more": 1}, "must hold"),
    ],
)
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    header = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}, "widths": {"hidden1": 7, "hidden2": 4}}
    model = models.build("mlp", num_classes=3, widths=header["widths"], in_features=5)  # type: ignore[arg-type]
    path = tmp_path / "w.safetensors"
    save_file(dict(model.state_dict()), path, {"zoo": json.dumps({**header, **change})})
    with pytest.raises(ZooError, match=reason):
        zoo.get(path)


# -- torch.hub -----------------------------------------------------------------------------------------------


def test_torch_hub_loads_from_a_clone_that_is_not_installed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.append(sys.argv[2]); import torch\n"
        "model = torch.hub.load(sys.argv[1], 'get', 'dgcnn-pruned-0.5x', source='local')\n"
        "print(type(model).__name__, model.widths['edge1'])\n"
        "print(sys.modules['zoo.models'].__file__)"
    )
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("zoo", "models", "datasets", "prune"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hubconf.py", clone)
    # -S: nothing that is installed in editable form is found.
    words = [sys.executable, "-S", "-W", "error", "-c", code, str(clone), str(Path(torch.__file__).parents[1])]
    result = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("DGCNN ")
    assert str(clone / "models") in result.stdout


def test_a_card_that_describes_another_network_is_refused(saved: tuple[torch.nn.Module, Card]) -> None:
    place = store.user_dir() / "net.shapes.json"
    text = place.read_text()
    for key, other in (("arch", "vgg11"), ("num_classes", 999), ("widths", {"hidden1": 9}), ("options", {})):
        place.write_text(json.dumps({**json.loads(text), key: other}))
        for name in ("net", store.user_dir()):
            with pytest.raises(ZooError, match=f"contradict each other: {key} is"):
                zoo.get(name)
    place.write_text("{")
    with pytest.raises(ZooError, match="is not a card that can be used"):  # no reason to leave the check out
        zoo.get(store.user_dir() / saved[1].saved.name)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    model = models.build("mlp", num_classes=3, in_features=5)
    header = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}, "widths": dict(model.widths)}  # type: ignore[arg-type]
    for dtype in (torch.complex64, torch.int64, torch.bool):
        state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
        save_file(state, tmp_path / "w.safetensors", {"zoo": json.dumps(header)})
        with pytest.raises(ZooError, match="is of type torch"):
            zoo.get(tmp_path / "w.safetensors")


def test_loading_draws_no_random_numbers_and_minds_no_defaults(saved: tuple[torch.nn.Module, Card]) -> None:
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            model = zoo.get("net")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(model(X), saved[0](X), rtol=0, atol=0)


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "gpu", "cuda:99", None, 1.5])
def test_a_device_that_is_not_here(saved: tuple[torch.nn.Module, Card], device: object) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is here")
    with pytest.raises(ZooError, match=r"use cpu|write cpu"):
        zoo.get("net", device=device)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 5, b"net", "", "net\0", "a/" * 3000, "a\0/b"])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(ZooError):
        zoo.get(name)  # type: ignore[arg-type]
    for mirror in (5, [None], [b"x"]):
        with pytest.raises(ZooError, match="is no mirror"):
            zoo.get("net", mirror=mirror)  # type: ignore[arg-type]
