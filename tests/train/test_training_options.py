"""What a recipe may ask for beyond plain descent, each against the same thing written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo import ZooError
from zoo.train import Recipe, train

RECIPE = Recipe(epochs=3, lr=0.1, batch_size=8, weight_decay=1e-3, label_smoothing=0.1)
X = torch.randn(32, 5, generator=torch.Generator().manual_seed(3))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
DATA = torch.utils.data.TensorDataset(X, Y)


def network(seed: int = 0, *, norm: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.ReLU(), nn.Linear(16, 3))


def assert_close(a: nn.Module, b: nn.Module, **how: float) -> None:
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(tensor, b.state_dict()[name], **how, msg=name)


def assert_other(a: nn.Module, b: nn.Module) -> None:
    assert any(not torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_batch_in_parts_is_the_batch(parts: int) -> None:
    whole = train(network(), DATA, RECIPE)
    assert_close(train(network(), DATA, replace(RECIPE, accumulate=parts)), whole, rtol=1e-4, atol=1e-6)


def test_in_parts_batch_norm_sees_a_part_at_a_time() -> None:
    seen: list[int] = []
    model = network(norm=True)
    model[1].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train(model, DATA, replace(RECIPE, epochs=1, accumulate=3))
    assert seen == [3, 3, 2] * 4


def test_the_average_is_the_sum_written_out() -> None:
    """w_avg after step t is d w_avg + (1 - d) w_t, beginning at the first step's weights."""
    weights: list[dict[str, torch.Tensor]] = []
    model = network(norm=True)
    real = torch.optim.SGD.step

    def step(self: torch.optim.SGD, *args: object) -> None:
        real(self, *args)
        weights.append({name: tensor.clone().double() for name, tensor in model.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        averaged = train(model, DATA, replace(RECIPE, average=0.8))
    expected = weights[0]
    for each in weights[1:]:
        expected = {name: 0.8 * expected[name] + 0.2 * tensor for name, tensor in each.items()}
    for name, tensor in averaged.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert_other(averaged, train(network(norm=True), DATA, RECIPE))
    assert len(weights) == 12


def test_distillation_is_its_formula() -> None:
    teacher = network(seed=5).eval()
    recipe = replace(RECIPE, epochs=1, batch_size=32, momentum=0.0, weight_decay=0.0, distil=0.3)
    trained = train(network(), DATA, recipe, teacher=teacher)
    by_hand = network()
    logits = by_hand(X)
    target = 0.9 * F.one_hot(Y, 3) + 0.1 / 3
    labels = -(target * logits.log_softmax(1)).sum(1).mean()
    p, q = (teacher(X) / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    gradients = torch.autograd.grad(0.7 * labels + 0.3 * 4 * divergence, list(by_hand.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    assert_close(trained, by_hand, rtol=1e-4, atol=1e-6)


def test_a_teacher_alone_teaches() -> None:
    """With distil = 1 the labels do not matter."""
    teacher, recipe = network(seed=5), replace(RECIPE, distil=1.0)
    wrong = torch.utils.data.TensorDataset(X, (Y + 1) % 3)
    assert_close(train(network(), DATA, recipe, teacher=teacher), train(network(), wrong, recipe, teacher=teacher),
                 rtol=0, atol=0)  # fmt: skip
    for arguments in ({"recipe": recipe}, {"recipe": RECIPE, "teacher": teacher}):
        with pytest.raises(ZooError, match="a teacher and a recipe with distil above 0 go together"):
            train(network(), DATA, **arguments)


def test_in_bfloat16_weights_stay_float32_and_end_near() -> None:
    types = set()
    model = network()
    model[0].register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    low = train(model, DATA, replace(RECIPE, precision="bfloat16"))
    assert types == {torch.bfloat16}
    assert {parameter.dtype for parameter in low.parameters()} == {torch.float32}
    high = train(network(), DATA, RECIPE)
    assert_close(low, high, rtol=0.1, atol=0.03)
    assert_other(low, high)


def test_a_run_with_everything_goes_on_where_it_was(tmp_path) -> None:
    recipe = replace(RECIPE, accumulate=2, average=0.9, precision="bfloat16", distil=0.5)
    teacher = network(seed=5, norm=True)
    whole = train(network(norm=True), DATA, recipe, teacher=teacher)

    class Stops(torch.utils.data.Dataset):
        read = 0

        def __len__(self) -> int:
            return 32

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.read += 1
            if self.read == 60:
                raise KeyboardInterrupt
            return X[index], Y[index]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.train.loop.SAVE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(network(norm=True), Stops(), recipe, teacher=teacher, checkpoint=tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)["state"]
    assert (saved["epoch"], saved["step"]) == (1, 3)
    again = train(network(seed=9, norm=True), DATA, recipe, teacher=teacher, checkpoint=tmp_path / "run.pt")
    assert_close(again, whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accumulate": 5}, "in 5 parts is not possible"),
        ({"accumulate": 0}, "in 0 parts is not possible"),
        ({"precision": "float8"}, "did you mean float"),
        ({"average": 1.0}, "`average` is a part"),
        ({"average": -0.1}, "`average` is a part"),
        ({"distil": 1.5}, "`distil` is a part"),
    ],
)
def test_what_no_recipe_can_ask_for(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ZooError, match=reason):
        replace(RECIPE, **changes)
