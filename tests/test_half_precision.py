"""Checkpoints in half precision: half the size, the same numbers, the same decisions, or none at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from store_entries import plain
from torch import Tensor, nn

import zoo
from zoo import checkpoint, datasets, models, store
from zoo.cards import Card, File
from zoo.datasets import train_val_split
from zoo.errors import ZooError
from zoo.evaluate import evaluate
from zoo.half_precision import round_to_float16
from zoo.workflows import DataSpec, holdout_split, save_entry

ARCH: dict[str, Any] = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}}


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5).eval()


def samples(number: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, 5, generator=generator), torch.arange(number) % 3


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Edge(nn.Module):
    """Two classes whose logits differ by `gap`: float16 has 1 and 1 + 2**-10, and nothing between."""

    def __init__(self, gap: float) -> None:
        super().__init__()
        self.out = nn.Linear(1, 2)
        self.widths: dict[str, int] = {}
        with torch.no_grad():
            self.out.weight.copy_(torch.tensor([[1.0], [1.0 + gap]]))
            self.out.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)


def test_rounded_weights_are_float16s_and_the_rest_is_untouched() -> None:
    model, before = net(), state(net())
    result = round_to_float16(model, samples())
    assert (result.changed, result.total, result.float32) == (0, 40, ())
    assert result.float16 == ("hidden1.weight", "hidden2.weight", "out.weight")
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        wanted = torch.from_numpy(before[name].numpy().astype("float16").astype("float32"))  # numpy's own rounding
        assert torch.equal(tensor, wanted if tensor.ndim >= 2 else before[name])
    assert not torch.equal(model.state_dict()["hidden1.weight"], before["hidden1.weight"])
    assert result.sentence() == "float16 weights: all 40 decisions are the same"


def test_batch_norm_stays_in_single_precision() -> None:
    torch.manual_seed(0)
    model = models.build("pointnet", num_classes=4).eval()
    before = state(model)
    clouds = torch.randn(4, 3, 64)
    result = round_to_float16(model, (clouds, torch.zeros(4, dtype=torch.long)))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, weight in model.named_parameters() if weight.ndim >= 2} == set(result.float16)
    data = checkpoint.pack(model, arch="pointnet", num_classes=4, options={}, float16=result.float16)
    few = sum(t.numel() * t.element_size() for t in before.values() if t.ndim < 2)
    assert len(data) - few < 0.52 * (sum(t.numel() * t.element_size() for t in before.values()) - few)


def test_one_decision_that_would_change_is_one_too_many() -> None:
    model = Edge(2**-12)  # rounds to 1: a tie, which the first class wins
    x = torch.tensor([[0.0], [-1.0], [3.0]])  # in the first two the second class does not win as it is
    before = state(model)
    assert evaluate(model, (x, torch.zeros(3, dtype=torch.long))).predictions.tolist() == [0, 0, 1]
    result = round_to_float16(model, (x, torch.zeros(3, dtype=torch.long)))
    assert (result.float16, result.float32) == ((), ("out.weight",))
    assert result.sentence() == "float32 weights: float16 would change 1 of 3 decisions"
    assert torch.equal(model.out.weight, before["out.weight"])
    result = round_to_float16(model, (x[:2], torch.zeros(2, dtype=torch.long)))
    assert not result.float32  # only the samples that are given decide
    assert torch.equal(model.out.weight, torch.ones(2, 1))


@pytest.mark.parametrize("number", [65520.0, -1e6])  # the least that rounds to infinity, and one far beyond
def test_a_weight_beyond_float16_stays_as_it_is(number: float) -> None:
    model = net()
    with torch.no_grad():
        model.hidden2.weight[1, 2] = number
    before = state(model)
    result = round_to_float16(model, samples())
    assert (result.float16, result.float32) == (("hidden1.weight", "out.weight"), ("hidden2.weight",))
    assert result.sentence() == (
        "float16 in 2 of 3 weights: all 40 decisions are the same "
        "(float32 in the others: hidden2.weight holds a number beyond 65504, the largest of float16)"
    )
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(result.float16)
    with pytest.raises(ZooError, match=r"hidden2\.weight holds numbers that float16 does not have"):
        checkpoint.pack(model, **ARCH, float16=[*result.float16, "hidden2.weight"])


def test_where_float16_has_no_weight_at_all_nothing_moves() -> None:
    model = Edge(0.0)
    with torch.no_grad():
        model.out.weight[1] = 1e5
    result = round_to_float16(model, (torch.ones(2, 1), torch.zeros(2, dtype=torch.long)))
    assert result.sentence() == "float32 weights: out.weight holds a number beyond 65504, the largest of float16"
    assert model.out.weight[1] == 1e5


def test_the_largest_float16_is_none_too_many() -> None:
    model = net()
    with torch.no_grad():
        model.hidden2.weight[1, 2] = 65519.0
    assert not round_to_float16(model, samples()).float32
    assert model.hidden2.weight[1, 2] == 65504


class Chain(nn.Module):
    """x goes through a chain of matrices that the test gives; the class is the larger of the last two numbers."""

    def __init__(self, *matrices: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(m.shape[1], m.shape[0], bias=False) for m in matrices)
        with torch.no_grad():
            for layer, matrix in zip(self.layers, matrices, strict=True):
                layer.weight.copy_(matrix)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("flips", [0, 2, 4, 5])
def test_the_largest_weights_are_rounded_as_long_as_no_decision_changes(flips: int) -> None:
    """Of five diagonal layers the one that `flips` counts, from the largest on, rounds the second class's lead away."""
    matrices = []
    for k in range(5):  # the largest first
        matrix = torch.eye(12 - 2 * k, 12 - 2 * k + 2 if k else 12)
        matrix[1, 1] = 1.0 + 2**-12 if k == flips else 1.0
        matrices.append(matrix)
    model = Chain(*matrices)
    model.layers.append(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model.layers[5].weight.copy_(torch.eye(2, 4))
        model.layers[5].weight[1, 1] += 2**-12 if flips == 5 else 0.0
    before, ones = state(model), (torch.ones(3, 12), torch.zeros(3, dtype=torch.long))
    assert evaluate(model, ones).predictions.tolist() == [1, 1, 1]
    result = round_to_float16(model, ones)
    largest_first = [f"layers.{k}.weight" for k in range(6)]
    assert (result.changed, result.float16) == (3, tuple(largest_first[:flips]))
    assert result.float32 == tuple(largest_first[flips:])
    assert evaluate(model, ones).predictions.tolist() == [1, 1, 1]
    after = state(model)
    assert all(torch.equal(after[name], before[name]) for name in result.float32)
    if flips:
        why = "(float32 in the others: float16 would change 3 of 3 decisions)"
        assert result.sentence() == f"float16 in {flips} of 6 weights: all 3 decisions are the same {why}"


def test_of_weights_of_one_size_those_that_come_first_are_rounded() -> None:
    """The fourth of five flips the decision: three are rounded, the same ones in every network made alike."""
    for _ in range(8):  # their addresses differ
        matrices = [torch.eye(4) for _ in range(5)]
        matrices[3][1, 1] += 2**-12
        model = Chain(*matrices, torch.eye(2, 4))
        result = round_to_float16(model, (torch.ones(3, 4), torch.zeros(3, dtype=torch.long)))
        assert result.float16 == ("layers.0.weight", "layers.1.weight", "layers.2.weight")


def test_a_norm_that_rounds_to_nothing_is_left_alone() -> None:
    class Normed(Chain):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.layers[1].weight
            return x @ self.layers[0].weight.T @ (weight / weight.norm()).T

    model = Normed(torch.eye(3), 1e-9 * torch.eye(2, 3))
    result = round_to_float16(model, (torch.ones(2, 3), torch.zeros(2, dtype=torch.long)))
    assert (result.changed, result.float16) == (2, ("layers.0.weight",))
    assert model.layers[1].weight.norm() > 0


def test_complex_and_infinite_numbers_stay_as_they_are() -> None:
    model = Chain(torch.eye(2))
    model.phase = nn.Parameter(torch.full((2, 2), 1 + 2**-12 + 1j))
    model.unused = nn.Parameter(torch.tensor([[1.0, torch.nan]]))
    result = round_to_float16(model, (torch.ones(2, 2), torch.zeros(2, dtype=torch.long)))
    assert (result.float16, result.float32, result.too_large) == (("layers.0.weight",), ("unused",), "unused")
    assert model.phase[0, 0] == 1 + 2**-12 + 1j


def test_a_weight_that_layers_share_is_rounded_in_both_or_in_neither() -> None:
    eye = torch.eye(4)
    model = Chain(eye, eye, eye, torch.eye(2, 4))
    model.layers[2].weight = model.layers[0].weight
    with torch.no_grad():
        model.layers[0].weight[1, 1] += 2**-12
    ones = (torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    result = round_to_float16(model, ones)
    assert result.changed == 1
    both = {"layers.0.weight", "layers.2.weight"}
    assert not both & set(result.float16)
    assert model.layers[2].weight[1, 1] > 1
    with torch.no_grad():
        model.layers[3].weight[1, 1] += 2**-8  # now the lead is float16's as well
    assert len(round_to_float16(model, ones).float16) == 4


def test_a_failure_on_the_way_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = net(), []

    def interrupted(module: nn.Module, *given: object) -> None:
        seen.append(module.weight.clone())
        if len(seen) == 2:  # the first forward pass is before the rounding
            raise KeyboardInterrupt

    model.hidden1.register_forward_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        round_to_float16(model, samples())
    assert not torch.equal(seen[0], seen[1])
    assert all(torch.equal(tensor, net().state_dict()[name]) for name, tensor in model.state_dict().items())


def test_data_that_cannot_be_decided_on() -> None:
    with pytest.raises(ZooError, match="nothing to evaluate on"):
        round_to_float16(net(), samples(0))
    x, y = samples()
    x[7, 2] = torch.nan
    with pytest.raises(ZooError, match="sample 7"):
        round_to_float16(net(), (x, y))
    with pytest.raises(ZooError, match="a label 3"):
        round_to_float16(net(), (samples()[0], torch.full((40,), 3)))


@pytest.mark.parametrize(("validation", "part"), [(None, 0.1), (0.25, 0.25)])
def test_what_is_held_out_for_choices_decides(validation: float | None, part: float) -> None:
    held_out = holdout_split(DataSpec(dataset="shapes", points=32, validation=validation))
    assert not held_out.augment
    assert held_out.indices == train_val_split(datasets.load("shapes", "train", points=32), part)[1].indices


def test_training_mode_and_batches_do_not_matter() -> None:
    a, b = net(), net().train()
    assert round_to_float16(a, samples()) == round_to_float16(b, samples(), batch_size=7)
    assert b.training
    assert torch.equal(a.out.weight, b.out.weight)


def test_the_file_holds_the_same_numbers_in_half_the_room(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build("mlp", num_classes=3, in_features=2000).eval()
    result = round_to_float16(model, (torch.randn(8, 2000), torch.zeros(8, dtype=torch.long)))
    form = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 2000}}
    whole, small = (checkpoint.pack(model, **form, float16=names) for names in ((), result.float16))
    assert len(small) < 0.51 * len(whole)
    assert checkpoint.pack(model, **form, float16=reversed(result.float16)) == small
    path = tmp_path / "net.safetensors"
    path.write_bytes(small)
    with safe_open(path, framework="pt") as file:
        kinds = {name: (file.get_tensor(name).dtype, file.get_tensor(name).ndim) for name in file.keys()}  # noqa: SIM118
    assert {kind for kind, ndim in kinds.values() if ndim >= 2} == {torch.float16}
    assert {kind for kind, ndim in kinds.values() if ndim < 2} == {torch.float32}
    loaded = checkpoint.load(path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    for damaged in (small[:-1], small[:40], small + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(ZooError, match="not a safetensors file, or a damaged one"):
            checkpoint.load(path)


def test_weights_that_were_not_rounded_are_not_stored_in_half() -> None:
    with pytest.raises(ZooError, match=r"hidden1\.weight holds .* round them .* zoo\.half_precision\.round_to_float16"):
        checkpoint.pack(net(), **ARCH, float16=["hidden1.weight"])
    with pytest.raises(ZooError, match=r"MLP has no matrix or kernel 'hidden9\.weight'"):
        checkpoint.pack(net(), **ARCH, float16=["hidden9.weight"])
    with pytest.raises(ZooError, match=r"no matrix or kernel 'hidden1\.bias'"):
        checkpoint.pack(net(), **ARCH, float16=["hidden1.bias"])


def test_an_entry_in_half_precision(empty_home: Path) -> None:
    model, other = net(), net(seed=1)
    card = save_entry(model, plain("net.shapes"), float16=round_to_float16(model, samples()).float16)
    assert card.saved.weights == "float16"
    assert zoo.info("net") == card == Card.from_json(card.to_json())
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        loaded = zoo.get("net", dtype=dtype)
        assert {parameter.dtype for parameter in loaded.parameters()} == {getattr(torch, dtype)}
        if dtype in ("float32", "float64"):
            assert torch.equal(loaded.out.weight.float(), model.out.weight)
    x, _ = samples()
    assert torch.equal(zoo.get("net")(x), model(x))
    whole = save_entry(other, plain("other.shapes"))
    assert whole.saved.weights is None
    assert "float16" not in whole.to_json()
    with pytest.raises(ZooError, match="round them first"):
        save_entry(other, plain("third.shapes"), float16=["out.weight"])
    assert zoo.list_models() == ["net.shapes", "other.shapes"]


def test_an_entry_of_which_a_part_is_in_half_precision(empty_home: Path) -> None:
    model = net()
    with torch.no_grad():
        model.hidden2.weight[1, 2] = 1e6
    result = round_to_float16(model, samples())
    card = save_entry(model, plain("net.shapes"), float16=result.float16)
    assert (card.saved.weights, zoo.info("net")) == ("mixed", card)
    with safe_open(store.user_dir() / card.saved.name, framework="pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert {name for name, kind in kinds.items() if kind == torch.float16} == set(result.float16)
    loaded = zoo.get("net")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_card_that_claims_another_type_is_refused() -> None:
    file = {"name": "net.shapes-00000000.safetensors", "size": 9, "sha256": "0" * 64}
    card = plain("net.shapes", file=File(**file))
    assert Card.from_json(card.to_json()).saved.weights is None
    text = replace(card, file=File(**file, weights="float16")).to_json()
    assert Card.from_json(text).saved.weights == "float16"
    with pytest.raises(ZooError, match="file: weights 'int8' is neither float16 nor mixed"):
        Card.from_json(text.replace('"float16"', '"int8"'))
