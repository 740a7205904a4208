"""Distillation of a pruned network from the unpruned one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.prune import distil


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).eval()


def divergence(student: nn.Module, teacher: nn.Module, x: Tensor, temperature: float = 2.0) -> float:
    """KL(teacher || student) at the temperature of the loss, times its square, written out."""
    with torch.no_grad():
        p, q = (F.log_softmax(net(x) / temperature, 1) for net in (teacher, student))
    return temperature**2 * float((p.exp() * (p - q)).sum(1).mean())


def test_the_loss_of_each_pass_is_returned_and_the_teacher_sees_each_sample_once() -> None:
    student, teacher, x = network(0), network(1), torch.randn(24, 6)
    seen: list[int] = []
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    means = distil(student, teacher, x, epochs=3, seed=0, lr=0.0, batch_size=8)
    assert sum(seen) == 24
    assert means == pytest.approx([divergence(student, teacher, x)] * 3, rel=1e-5)


def test_distillation_lowers_the_divergence_and_leaves_the_teacher() -> None:
    student, teacher, x = network(0), network(1), torch.randn(64, 6)
    before = [parameter.clone() for parameter in teacher.parameters()]
    first, *_, last = distil(student, teacher, x, epochs=20, seed=0, lr=1e-2, batch_size=8)
    assert divergence(student, teacher, x) < last < 0.2 * first
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
