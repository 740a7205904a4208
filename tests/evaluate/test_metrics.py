"""Evaluation against a loop over single samples in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from zoo import ZooError
from zoo.cards import paired_difference_ci, wilson_interval
from zoo.evaluate import eval_mode, evaluate


@pytest.mark.parametrize(
    ("only_first", "only_second", "least"),
    [(0.1, 0.06, 0.94), (0.002, 0.001, 0.94), (0.0, 0.0, 1.0), (0.0075, 0.0, 0.94), (0.005, 0.0, 0.87)],  # the worst
)
def test_a_paired_difference_holds_the_truth_in_95_of_100_cases(
    only_first: float, only_second: float, least: float
) -> None:
    """2000 test sets of 400 samples, a fraction of which only one of the two networks classifies correctly."""
    uniform = torch.rand(2000, 400, generator=torch.manual_seed(0))
    first, second = uniform < 0.8 + only_first, (uniform < 0.8) | (uniform >= 1 - only_second)
    covered = 0
    for a, b in zip(first.int().tolist(), second.int().tolist(), strict=True):
        difference, half = paired_difference_ci(a, b)
        assert difference == pytest.approx((sum(a) - sum(b)) / 400)
        covered += abs(difference - (only_first - only_second)) <= half
    assert covered / 2000 >= least
    if only_second > 0.01:  # many samples tell them apart: no wider than it has to be
        assert covered / 2000 < 0.96


def test_a_paired_difference_is_that_of_agresti_and_min() -> None:
    """Their Wald interval of the table with half a sample more in each of its four cells."""
    a, b = [1] * 80 + [0] * 10 + [1] * 7 + [0] * 3, [1] * 80 + [0] * 10 + [0] * 7 + [1] * 3
    difference, half = paired_difference_ci(a, b)
    assert difference == pytest.approx((7 - 3) / 100)
    n, p12, p21 = 102, 7.5 / 102, 3.5 / 102
    assert half == pytest.approx(1.95996 * ((p12 + p21 - (p12 - p21) ** 2) / n) ** 0.5, rel=1e-5)
    with pytest.raises(ZooError, match="at least one sample"):
        paired_difference_ci([], [])
    with pytest.raises(ValueError, match="zip"):
        paired_difference_ci([1, 0], [0])


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(23, 6, generator=generator), torch.randint(3, (23,), generator=generator)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_equals_a_loop_over_samples(network, samples, batch_size):
    network.double().eval()
    right, loss = [], 0.0
    for x, y in zip(*samples, strict=True):
        logits = network(x.double().unsqueeze(0))
        right.append(bool(logits.argmax() == y))
        loss -= F.log_softmax(logits, 1)[0, y].item()
    result = evaluate(network.float(), samples, batch_size=batch_size)
    assert result.hits.tolist() == right
    assert (result.correct, result.total, result.accuracy) == (sum(right), 23, sum(right) / 23)
    assert result.cross_entropy == pytest.approx(loss / 23, rel=1e-6)
    assert (result.low, result.high) == wilson_interval(sum(right), 23)
    assert evaluate(network, TensorDataset(*samples), batch_size=batch_size) == result


def test_every_module_is_left_in_its_own_mode(network, samples):
    network.train()
    network[1].eval()  # a frozen batch norm inside a network in training
    statistics = network[1].running_mean.clone()
    with eval_mode(network):
        assert not any(module.training for module in network.modules())
    evaluate(network, samples)
    with pytest.raises(ZooError):  # also after a failure
        evaluate(network, (samples[0], samples[1] + 7))
    assert [module.training for module in network.modules()] == [True, True, False, True, True, True]
    assert torch.equal(network[1].running_mean, statistics)


def test_what_cannot_be_evaluated(network, samples):
    x, y = samples
    with pytest.raises(ZooError, match="empty"):
        evaluate(network, (x[:0], y[:0]))
    with pytest.raises(ZooError, match="23 inputs came with 22 labels"):
        evaluate(network, (x, y[1:]))
    with pytest.raises(ZooError, match="batch of 0"):
        evaluate(network, samples, batch_size=0)
    with pytest.raises(ZooError, match="a label 3, but the network has 3 outputs"):
        evaluate(network, (x, y + (y == 2)))
    broken = x.clone()
    broken[17, 2] = float("nan")
    with pytest.raises(ZooError, match="sample 17 of the data holds NaN"):
        evaluate(network, (broken, y), batch_size=5)
    network[4].bias.data[0] = float("inf")
    with pytest.raises(ZooError, match="outputs are NaN or infinite"):
        evaluate(network, samples)
