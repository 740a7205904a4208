"""Last steps on a network that is cut, both without labels: batch norms are recalibrated, and a short distillation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo import distributed
from zoo.errors import ZooError
from zoo.train import distillation_loss
from zoo.utils import progress_bar

LEARNING_RATE = 3e-5
WARMUP_STEPS = 10
BATCH_SIZE = 32
# A backward pass keeps every activation, so a CPU takes a batch in chunks of so many samples. The gradient is that of
# the whole batch, because batch norms keep their statistics.
CPU_CHUNK = 8


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a network that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def check_recalibration(model: nn.Module, inputs: Tensor) -> None:
    """Raise ZooError unless the network has batch norms with statistics, and samples are enough for a variance."""
    if len(inputs) < 2:
        raise ZooError("Batch norms are recalibrated from 2 samples at least, and well from a hundred.")
    if not batch_norms(model):
        raise ZooError("There is no batch norm with statistics to recalibrate in this network: leave that step out.")


@torch.no_grad()
def recalibrate(model: nn.Module, inputs: Tensor, *, batch_size: int = 64) -> None:
    """Set the mean and variance of every batch norm, in place, to those of inputs (M, ...): the plain average over
    batches of equal size, of at most `batch_size` samples. Each of several processes does all of it.

    Raises ZooError for a network without batch norms, and for a single sample.
    """
    check_recalibration(model, inputs)
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average
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
    model: nn.Module, teacher: nn.Module, inputs: Tensor, *, epochs: int, seed: int, discrepancy: str = "cross_entropy",
    lr: float = LEARNING_RATE, batch_size: int = BATCH_SIZE, progress: bool = False,
) -> list[float]:  # fmt: skip
    """Train `model`, in place, towards the teacher's class probabilities on inputs (M, ...), without labels
    (`zoo.train.distillation_loss`); with discrepancy "squared_error" (`zoo.prune.engine.discrepancy`) towards its
    outputs.

    The optimiser is AdamW on batches of `batch_size`, with the highest learning rate `lr`, a short warm-up and cosine
    decay. Batch norms keep their statistics. Images are flipped at random, and half of the batches carry a patch of
    another image (CutMix, Yun et al. 2019): the teacher labels the mix; this augments a small set.

    Returns the mean loss of each epoch, with the weights as they were at each step.

    Raises ZooError if the weights are not finite afterwards, and restores them.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    required_grad = [parameter.requires_grad for parameter in model.parameters()]
    parameters = [parameter.requires_grad_(True) for parameter in model.parameters()]
    size = min(batch_size, len(inputs))
    chunk_size = size if inputs.is_cuda else CPU_CHUNK
    steps = epochs * (len(inputs) // size)
    optimiser = torch.optim.AdamW(parameters, lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2,
    )
    generator = torch.Generator().manual_seed(seed)
    bar = progress_bar(title="distil", total=steps, show=progress)
    taught = _TeacherOutputs(teacher, repeats=inputs.dim() != 4 and epochs > 1)  # images are never the same twice
    means: list[float] = []
    model.eval()
    for _ in range(epochs):
        total, done = 0.0, 0
        order = torch.randperm(len(inputs), generator=generator)
        for indices in order[: len(inputs) // size * size].view(-1, size):
            batch = inputs[indices.to(inputs.device)]
            if batch.dim() == 4:
                batch = _augmented(batch, generator).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            shard = distributed.shard(size)
            losses = []
            chunks = zip(*(torch.split(part[shard], chunk_size) for part in (indices, batch)), strict=True)
            for at, chunk in chunks:
                if len(chunk):
                    target = taught(at, chunk)
                    losses.append(_add_gradient(model, target, chunk, size, discrepancy))
            distributed.all_reduce_gradients(parameters)
            divergence = float(distributed.all_reduce(torch.tensor(float(sum(losses)))))
            total, done = total + divergence, done + 1
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix_str(f"divergence {divergence:.3f}")
        means.append(total / done)
    bar.close()
    optimiser.zero_grad()
    for parameter, required in zip(parameters, required_grad, strict=True):
        parameter.requires_grad_(required)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        model.load_state_dict(before)
        raise ZooError("Distillation diverged: the weights became NaN or infinite. Leave it out for this network.")
    return means


class _TeacherOutputs:
    """The teacher's outputs (b, C) for samples of these indices; with `repeats` a sample that comes again is the same,
    and is computed once."""

    def __init__(self, teacher: nn.Module, *, repeats: bool) -> None:
        self._teacher, self._repeats = teacher, repeats
        self._known: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, indices: Tensor, samples: Tensor) -> Tensor:
        if not self._repeats:
            return self._teacher(samples)  # type: ignore[no-any-return]
        numbers = indices.tolist()
        if not all(number in self._known for number in numbers):
            self._known.update(zip(numbers, self._teacher(samples), strict=True))
        return torch.stack([self._known[number] for number in numbers])


def _add_gradient(model: nn.Module, teacher_logits: Tensor, chunk: Tensor, size: int, discrepancy: str) -> float:
    """Add the gradient of a chunk of a batch of `size` samples. Returns what it adds to the batch's mean loss."""
    logits = model(chunk)
    if discrepancy == "squared_error":
        loss = F.mse_loss(logits, teacher_logits, reduction="sum") / size
    else:
        loss = distillation_loss(logits, teacher_logits, reduction="sum") / size
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (b, C, H, W): with probability 1/2 all are flipped left to right, and with probability 1/2 each gets a
    patch of another one (CutMix)."""
    if torch.rand(1, generator=generator) < 0.5:
        images = images.flip(3)
    if torch.rand(1, generator=generator) < 0.5:
        H, W = images.shape[2:]
        h = max(1, int(H * (0.3 + 0.5 * torch.rand(1, generator=generator))))
        w = max(1, int(W * (0.3 + 0.5 * torch.rand(1, generator=generator))))
        top, left = (int(torch.randint(0, high, (1,), generator=generator)) for high in (H - h + 1, W - w + 1))
        patch = images.flip(0)[:, :, top : top + h, left : left + w]
        images = images.clone()
        images[:, :, top : top + h, left : left + w] = patch
    return images
