"""Forward times of networks whose time is known."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from zoo import ZooError
from zoo.evaluate import forward_times

calls: list[str] = []


class Slow(nn.Module):
    def __init__(self, name: str, seconds: float) -> None:
        super().__init__()
        self.name, self.seconds = name, seconds
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert x.dtype == self.weight.dtype
        calls.append(self.name)
        time.sleep(self.seconds)
        return x


def test_models_take_turns_and_ratios_are_those_of_their_times():
    calls.clear()
    networks = {name: Slow(name, seconds).train() for name, seconds in (("a", 0.008), ("b", 0.004), ("c", 0.016))}
    times = forward_times(networks, torch.zeros(2, 3), repeats=12, warmup=2, dtype="bfloat16")
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 14
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 2  # the order changes
    assert (times["a"].speedup, times["a"].speedup_low, times["a"].speedup_high) == (1, 1, 1)
    assert times["b"].speedup == pytest.approx(2, rel=0.25)
    assert times["c"].speedup == pytest.approx(0.5, rel=0.25)
    for each in times.values():
        assert each.rounds == 12
        assert each.p5 <= each.median <= each.p95
        assert each.speedup_low <= each.speedup <= each.speedup_high
    assert times["c"].median >= 0.016
    assert networks["a"].training
    assert networks["a"].weight.dtype == torch.float32


def test_what_cannot_be_timed():
    network = {"a": nn.Linear(2, 2)}
    x = torch.randn(4, 2)
    for wrong, message in (
        ({"dtype": "float23"}, "did you mean float"),
        ({"mode": "eagre"}, "did you mean eager"),
        ({"mode": "cuda_graph"}, "need a CUDA GPU"),
        ({"repeats": 0}, "one repeat or more"),
    ):
        with pytest.raises(ZooError, match=message):
            forward_times(network, x, **wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["eager", "cuda_graph"])
def test_a_gpu_is_timed_by_its_own_clock(mode):
    networks = {"small": nn.Linear(64, 64), "large": nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(4)))}
    networks["small"] = nn.Sequential(nn.Linear(4096, 64))
    times = forward_times(networks, torch.randn(4096, 4096).cuda(), repeats=10, mode=mode)
    assert times["large"].median > times["small"].median > 0
