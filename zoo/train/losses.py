"""What training lowers: the cross-entropy with the labels, and the divergence from a teacher where a recipe asks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.train.recipe import Recipe

TEMPERATURE = 2.0


class Losses:
    """(1 - d) cross-entropy(labels) + d T^2 KL(teacher || model), both at the mean over a batch; d is the recipe's
    `distil`, T the temperature at which the divergence is taken (Hinton, Vinyals, Dean 2015, section 2)."""

    def __init__(self, recipe: Recipe, teacher: nn.Module | None) -> None:
        self.recipe = recipe
        self.teacher = None if teacher is None else teacher.eval()

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of logits (B, classes) for inputs (B, ...) with labels (B,)."""
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.teacher is None:
            return loss
        with torch.no_grad(), self.precision(inputs.device):
            wanted = self.teacher(inputs).float()
        given, wanted = (F.log_softmax(each / TEMPERATURE, 1) for each in (logits, wanted))
        divergence = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
        return (1 - self.recipe.distil) * loss + self.recipe.distil * TEMPERATURE**2 * divergence

    def precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """A context in which products are taken in the recipe's precision."""
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, getattr(torch, self.recipe.precision))
