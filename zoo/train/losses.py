"""Training losses: cross-entropy with the labels, and the divergence from a teacher where a recipe asks for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.train.recipe import Recipe


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0, reduction: str = "batchmean"
) -> Tensor:
    """T^2 KL(softmax(teacher_logits / T) || softmax(logits / T)), the loss of Hinton, Vinyals, Dean 2015, section 2.

    Both logits are (B, classes). `reduction` is that of `torch.nn.functional.kl_div`: "batchmean" is the mean over the
    batch, "sum" the sum over it. The factor T^2 keeps the size of the gradient when the temperature T changes.
    """
    log_probs, teacher_log_probs = (F.log_softmax(x / temperature, 1) for x in (logits, teacher_logits))
    return temperature**2 * F.kl_div(log_probs, teacher_log_probs, reduction=reduction, log_target=True)


class TrainingLoss:
    """(1 - d) cross-entropy(labels) + d `distillation_loss`(teacher), where d is the recipe's `distil`.

    Both terms are means over a batch. Without a teacher the loss is the cross-entropy alone.
    """

    def __init__(self, recipe: Recipe, teacher: nn.Module | None) -> None:
        self.recipe = recipe
        self.teacher = None if teacher is None else teacher.eval()

    def __call__(self, logits: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of logits (B, classes) for inputs (B, ...) with labels (B,)."""
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.teacher is None:
            return loss
        with torch.no_grad(), self.autocast(inputs.device):
            teacher_logits = self.teacher(inputs).float()
        return (1 - self.recipe.distil) * loss + self.recipe.distil * distillation_loss(logits, teacher_logits)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """A context in which matrix products and convolutions run in the recipe's precision."""
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, getattr(torch, self.recipe.precision))
