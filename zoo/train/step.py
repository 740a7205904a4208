"""One step of stochastic gradient descent: forward and backward passes over a batch, in parts, and the update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo import distributed
from zoo.distributed import MicroBatch
from zoo.evaluate import check_logits
from zoo.train.losses import TrainingLoss
from zoo.train.recipe import Recipe


class TrainingStep:
    """Updates a model batch by batch as a recipe says: SGD with momentum, autocast, gradient accumulation, averaging.

    Images (inputs of C, H, W) run in the channels-last memory format. In several processes each one runs its shard of
    the batch, and gradients and batch-norm statistics are those of the whole batch.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, *, device: torch.device, images: bool, teacher: nn.Module | None
    ) -> None:
        self.model, self.device, self.images = model, device, images
        if images:
            model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.loss = TrainingLoss(recipe, teacher)
        # Loss scaling keeps small float16 gradients from becoming 0; disabled it passes everything through.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self.average: AveragedModel | None = None
        if recipe.average:
            ema = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)

    def __call__(
        self, inputs: Tensor, labels: Tensor, parts: list[MicroBatch], lr: float, *, check: bool = False
    ) -> Tensor:
        """Take one step and return (sum of losses, correct predictions, samples) (3,) over this process's samples.

        inputs (B, ...) and labels (B,) are this process's samples of all `parts`, one part after another. With `check`
        logits that are not finite, or too few for the labels, raise ZooError.
        """
        if self.images:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        size, local_sizes = sum(part.size for part in parts), [len(part.indices) for part in parts]
        for part, x, y in zip(parts, torch.split(inputs, local_sizes), torch.split(labels, local_sizes), strict=True):
            with self.loss.autocast(self.device), distributed.sync_batch_norms(part.size):
                logits = self.model(x)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if check:
                check_logits(logits, y)
            loss = self.loss(logits, x, y)
            count = len(y) * part.counted
            self.scaler.scale(loss * (count / size)).backward()  # type: ignore[no-untyped-call]
            if count:
                correct = (logits.detach().argmax(1) == y).sum()
                sums += torch.stack([loss.detach() * count, correct, torch.full_like(correct, count)]).double()
        distributed.all_reduce_gradients([p for p in self.model.parameters() if p.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return sums

    @property
    def averaged_model(self) -> nn.Module:
        """The model that is the result so far: the average of the weights where the recipe asks for one."""
        return self.model if self.average is None else self.average.module

    def finish(self) -> None:
        """Copy the average, if there is one, into the model, and restore the usual memory format."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        if self.images:
            self.model.to(memory_format=torch.contiguous_format)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
