"""Tensors that cannot be a network's weights, and those of another network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from foreign_weights import mlp, refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zoo import checkpoint, models
from zoo.convert import convert
from zoo.errors import ZooError


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_not_finite_are_refused_with_the_name(value: float, kind: str, tmp_path: Path) -> None:
    state = mlp()
    state["hidden2.weight"][1, 2] = value
    torch.save(state, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert f"the tensor hidden2.weight of {tmp_path / 'w.pth'} has 1 of 28 numbers that are not finite" in sentence
    assert f"({kind})" in sentence


def test_weights_are_finite_in_the_type_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = mlp()
    state["hidden2.weight"] = state["hidden2.weight"].double()
    state["hidden2.weight"][1, 2] = 1e300
    torch.save(state, path)
    large = "has 1 of 28 numbers that torch.{} cannot hold: the network would get infinite weights"
    assert f"the tensor hidden2.weight of {path} {large.format('float32')}" in refused(path)
    model = models.build("mlp", num_classes=3)
    model.state_dict()["out.weight"][0, 0] = 1e5
    checkpoint.save(model, tmp_path / "w.safetensors", arch="mlp", num_classes=3, options={})
    checkpoint.load(tmp_path / "w.safetensors")
    with pytest.raises(ZooError, match=r"the tensor out\.weight of .* numbers that torch\.float16 cannot hold"):
        checkpoint.load(tmp_path / "w.safetensors", dtype=torch.float16)
    data = load_file(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        header = file.metadata()
    save_file({**data, "out.weight": data["out.weight"].double() * 1e300}, tmp_path / "w.safetensors", header)
    with pytest.raises(ZooError, match=r"the tensor out\.weight of .* numbers that torch\.float32 cannot hold"):
        checkpoint.load(tmp_path / "w.safetensors")


def test_a_variance_below_0_is_refused(tmp_path: Path) -> None:
    model = models.build("dgcnn", num_classes=3)
    name = next(name for name in model.state_dict() if name.endswith("running_var"))
    model.state_dict()[name][1] = -1e-3
    checkpoint.save(model, tmp_path / "w.safetensors", arch="dgcnn", num_classes=3, options={})
    torch.save(model.state_dict(), tmp_path / "w.pth")
    sentence = re.escape(f"the tensor {name} of ") + r".* has 1 of \d+ numbers below 0, and variances are not"
    with pytest.raises(ZooError, match=sentence):
        checkpoint.load(tmp_path / "w.safetensors")
    with pytest.raises(ZooError, match=sentence):
        convert(tmp_path / "w.pth", arch="dgcnn", out=tmp_path / "out.safetensors")


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
