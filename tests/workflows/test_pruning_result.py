"""What `zoo reprune` says of a network beside its parent."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zoo.workflows import PruningResult


def result(both: int, lost: int, gained: int, neither: int) -> PruningResult:
    """With so many samples right in both networks, only in the parent, only in the pruned one, and in none."""
    counts = torch.tensor([both, lost, gained, neither])

    def measured(right: list[bool]) -> Any:
        hits = torch.tensor(right).repeat_interleave(counts)
        return SimpleNamespace(evaluation=SimpleNamespace(hits=hits, total=len(hits), correct=int(hits.sum())))

    before, after = [True, True, False, False], [True, False, True, False]
    return PruningResult(card=None, measurement=measured(after), parent=measured(before))  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [(80, 10, 4, 6), (50, 0, 0, 50), (10, 30, 0, 0)])
def test_the_change_is_that_of_pairs(counts: tuple[int, int, int, int]) -> None:
    made = result(*counts)
    both, lost, gained, neither = counts
    differences = torch.tensor([0.0] * both + [-1.0] * lost + [1.0] * gained + [0.0] * neither, dtype=torch.float64)
    margin = 1.96 * float(differences.std(correction=0)) / math.sqrt(len(differences))
    mean = float(differences.mean())
    assert made.right == {"both": both, "only_before": lost, "only_after": gained}
    assert made.difference == pytest.approx((100 * mean, 100 * (mean - margin), 100 * (mean + margin)))
