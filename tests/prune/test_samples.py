"""What `prune` takes as samples, and the sentence for each thing that it does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.errors import ZooError
from zoo.models import build
from zoo.prune import prune
from zoo.prune.samples import checked_samples

M, CLASSES = 10, 3


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return build("mlp", num_classes=CLASSES)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(M, 10, generator=torch.Generator().manual_seed(0))


Y = torch.arange(M) % CLASSES


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tensors": lambda x: (x, Y),
    "a list of two": lambda x: [x, Y],
    "arrays": lambda x: (x.numpy(), Y.numpy()),
    "arrays of numpy's default types": lambda x: (x.double().numpy(), Y.numpy()),
    "big-endian arrays, as HDF5 files hold them": lambda x: (x.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "labels as HDF5 files hold them": lambda x: (x.numpy(), Y.numpy().astype(np.uint8)[:, None]),
    "a DataLoader": lambda x: DataLoader(TensorDataset(x, Y), batch_size=4),
    "a generator of arrays": lambda x: ((x[i : i + 3].numpy(), Y[i : i + 3].numpy()) for i in range(0, M, 3)),
    "a list of two batches": lambda x: [(x[:4], Y[:4]), (x[4:], Y[4:])],
}
WITHOUT_LABELS: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda x: (x, None),
    "a tensor": lambda x: x,
    "an array": lambda x: x.numpy(),
    "batches": lambda x: [x[:4], x[4:]],
    "two batches of one size": lambda x: [x[:5], x[5:]],
    "batches of one field": lambda x: DataLoader(TensorDataset(x), batch_size=4),
    "labels that are no classes": lambda x: (x, torch.rand(M)),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_with_labels_are_the_same_samples(model: nn.Module, x: Tensor, form: str) -> None:
    inputs, labels = checked_samples(model, FORMS[form](x))
    assert torch.equal(inputs, x)
    assert inputs.dtype == torch.float32
    assert labels is not None
    assert torch.equal(labels, Y)
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("form", WITHOUT_LABELS)
def test_all_forms_without_labels_are_the_same_samples(model: nn.Module, x: Tensor, form: str) -> None:
    inputs, labels = checked_samples(model, WITHOUT_LABELS[form](x))
    assert torch.equal(inputs, x)
    assert labels is None


def test_a_loader_and_tensors_prune_to_the_same_network(model: nn.Module, x: Tensor) -> None:
    one, _ = prune(model, (x, Y), eps=0.05, method="local")
    two, _ = prune(model, DataLoader(TensorDataset(x, Y), batch_size=4), eps=0.05, method="local")
    assert one.widths == two.widths
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])


def test_the_check_leaves_the_network_as_it_is(x: Tensor) -> None:
    model = build("pointnet", num_classes=CLASSES).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    checked_samples(model, torch.randn(2, 3, 32))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def _with(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[7, 2] = value
    return x


WRONG: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a label too large": (lambda x: (x, Y + 1), r"sample 2 has the label 3, but the network has 3 outputs: .* 0 to 2"),
    "a label below 0": (lambda x: (x, Y - 1), "sample 0 has the label -1"),
    "labels for pixels": (lambda x: (x, torch.zeros(M, 4, dtype=torch.long)), r"shape \(10, 4\): give one class index"),
    "too few labels": (lambda x: (x, Y[1:]), "10 pruning samples came with 9 labels"),
    "NaN": (lambda x: (_with(x, float("nan")), Y), "sample 7 holds NaN or infinite"),
    "infinity in an array": (lambda x: _with(x, float("inf")).numpy(), "sample 7 holds NaN or infinite"),
    "no samples": (lambda x: (x[:0], Y[:0]), "There are no pruning samples: give at least one"),
    "an empty array": (lambda x: x[:0].numpy(), "There are no pruning samples"),
    "no batches": (lambda x: [], "There are no pruning samples"),
    "an empty loader": (lambda x: iter(()), "There are no pruning samples"),
    "an empty batch": (lambda x: [(x, Y), (x[:0], Y[:0])], "Batch 1 of the pruning samples is empty"),
    "dicts": (lambda x: [{"image": x, "label": Y}], r"Batch 0 is a dict with 'image', 'label': give pairs"),
    "a dict": (lambda x: {"image": x}, "Pruning samples are inputs, .*; got a dict"),
    "batches of three": (lambda x: [(x, Y, Y)], "Batch 0 is a tuple of 3: a batch is inputs, or"),
    "lists of numbers": (lambda x: [([1.0], [2])], "Batch 0 is a tuple of 2: a batch is inputs, or"),
    "labels in some batches": (lambda x: [(x, Y), x], "1 of 2 batches have labels"),
    "batches of other shapes": (lambda x: [x, x[:, :5]], r"of the shapes \(5,\) and \(10,\)"),
    "a batch with too few labels": (lambda x: [(x, Y[1:])], "Batch 0 has 10 samples and 9 labels"),
    "samples of another shape": (lambda x: x[:, :5], r"does not take the pruning samples \(5, float32\)"),
    "whole numbers": (lambda x: x.long(), r"does not take the pruning samples \(10, int64\)"),
    "words": (lambda x: np.array(["a", "b"]), "holds no samples or labels: give numbers"),
    "a path": (lambda x: "data/", "got a str"),
    "a number": (lambda x: 3, "got a int"),
    "nothing": (lambda x: None, "got a NoneType"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_one_sentence(model: nn.Module, x: Tensor, case: str) -> None:
    data, message = WRONG[case]
    with pytest.raises(ZooError, match=message) as caught:
        prune(model, data(x), eps=0.1)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)
