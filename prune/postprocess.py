"""Last steps on a network that is cut: batch norms recalibrated, and a short distillation. Both without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from zoo import distributed
from zoo.errors import ZooError

TEMPERATURE = 2.0
LEARNING_RATE = 3e-5
BATCH_SIZE = 32
# A backward pass keeps every activation: on a CPU so many samples of a batch at a time. Batch norms being still, the
# gradient is that of the whole batch.
CPU_CHUNK = 8


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Those that keep statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@torch.no_grad()
def recalibrate(model: nn.Module, inputs: Tensor, *, batch_size: int = 64) -> None:
    """Every batch norm takes its mean and variance from inputs (M, ...), in place: the plain average over batches of
    equal size, of at most `batch_size` samples. Of several processes each does it all.

    Raises ZooError for a single sample, of which there is no variance.
    """
    if len(inputs) < 2:
        raise ZooError("Batch norms are recalibrated from 2 samples at least, and well from a hundred.")
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        for batch in torch.tensor_split(inputs, -(-len(inputs) // max(2, batch_size))):
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


@torch.enable_grad()
def distil(
    model: nn.Module, teacher: nn.Module, inputs: Tensor, *, epochs: int, seed: int, kind: str = "cross_entropy",
    progress: bool = False,
) -> None:  # fmt: skip
    """Train `model` in place towards the teacher's class probabilities on inputs (M, ...), without labels; for kind
    "squared_error" (zoo.prune.engine.discrepancy) towards its outputs.

    The divergence at temperature 2 (Hinton, Vinyals, Dean 2015), AdamW, the rate falling along half a cosine. Batch
    norms keep their statistics. Images are mirrored at random, and half of the batches carry a patch of another image
    (Yun et al. 2019, CutMix): the teacher says what they show, so few images last longer.

    Raises ZooError if the result is not finite; the model is then as it was.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    parameters = [parameter.requires_grad_(True) for parameter in model.parameters()]
    size = min(BATCH_SIZE, len(inputs))
    together = size if inputs.is_cuda else CPU_CHUNK
    steps = epochs * (len(inputs) // size)
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 10) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    generator = torch.Generator().manual_seed(seed)
    bar = tqdm(total=steps, desc="distil", disable=None if progress else True, leave=False)
    model.eval()
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for numbers in order[: len(inputs) // size * size].view(-1, size):
            batch = inputs[numbers.to(inputs.device)]
            if batch.dim() == 4:
                batch = _varied(batch, generator).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            mine = batch[distributed.shard(size)]
            losses = [_backward(model, teacher, part, size, kind) for part in torch.split(mine, together) if len(part)]
            divergence = _shared(parameters, sum(losses))
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix_str(f"divergence {divergence:.3f}")
    bar.close()
    optimiser.zero_grad()
    for parameter, before_it in asked:
        parameter.requires_grad_(before_it)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        model.load_state_dict(before)
        raise ZooError("Distillation diverged: the weights are no numbers any more. Leave it out for this network.")


def _backward(model: nn.Module, teacher: nn.Module, part: Tensor, size: int, kind: str) -> float:
    """Add the gradient of a part of a batch of `size`; its share of the batch's divergence."""
    with torch.no_grad():
        wanted = teacher(part)
    given = model(part)
    if kind == "squared_error":
        loss = F.mse_loss(given, wanted, reduction="sum") / size
    else:
        given, wanted = (F.log_softmax(logits / TEMPERATURE, 1) for logits in (given, wanted))
        loss = TEMPERATURE**2 * F.kl_div(given, wanted, reduction="sum", log_target=True) / size
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _shared(parameters: Sequence[Tensor], divergence: float) -> float:
    """Add up the gradients, and the divergence, of all processes."""
    if not distributed.is_distributed():
        return divergence
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    flat = distributed.all_reduce(torch.cat([each.flatten() for each in (*gradients, gradients[0].new_tensor(divergence))]))
    for parameter, part in zip(parameters, torch.split(flat[:-1], [each.numel() for each in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return float(flat[-1])


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (b, C, H, W), all mirrored or none, and in half of the cases with a patch of another one."""
    if torch.rand(1, generator=generator) < 0.5:
        images = images.flip(3)
    if torch.rand(1, generator=generator) < 0.5:
        H, W = images.shape[2:]
        h = max(1, int(H * (0.3 + 0.5 * torch.rand(1, generator=generator))))
        w = max(1, int(W * (0.3 + 0.5 * torch.rand(1, generator=generator))))
        top, left = (int(torch.randint(0, most, (1,), generator=generator)) for most in (H - h + 1, W - w + 1))
        patch = images.flip(0)[:, :, top : top + h, left : left + w]
        images = images.clone()
        images[:, :, top : top + h, left : left + w] = patch
    return images
