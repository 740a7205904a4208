"""Training and fine-tuning of classifiers: SGD with momentum, a cosine per step, and runs that survive a kill.

A run's whole state (weights, momentum, epoch, step, random state, log so far) goes into one file that is written
beside its place and renamed. A run killed at any moment and started again goes on from that file and ends with
the weights of the run that was never killed (bit for bit on a CPU; on a GPU as far as its kernels repeat
themselves). No choice is made while training: the weights after the last step are the result, so no test
sample is ever looked at here. A validation part is counted after every epoch, for the one who chooses.

Several processes (`zoo.distributed.processes`) train one network together: every batch is the one that a single process would
take, each runs its own rows of it, and gradients and batch-norm statistics are those of the whole batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from tqdm import tqdm

from zoo import distributed
from zoo.distributed import Share, shares
from zoo.errors import ZooError
from zoo.evaluate import Samples, batches, check_logits, consecutive, evaluate, model_device, size_of
from zoo.train import state
from zoo.train.log import check_log, epoch_line, write_log
from zoo.train.losses import TrainingLoss
from zoo.train.recipe import Recipe
from zoo.train.state import State
from zoo.utils import check_seed, generator_for

SAVE_SECONDS = 60.0  # between two saves inside an epoch
LOOK_STEPS = 16  # between two looks at the loss on a GPU: each look waits until the GPU has finished


def train(
    model: nn.Module,
    dataset: Dataset[Any],
    recipe: Recipe,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    log: Path | None = None,
    workers: int = 0,
    progress: bool = False,
    teacher: nn.Module | None = None,
    validation: Samples | None = None,
) -> nn.Module:
    """Train the model in place, on the device it is on, and return it in eval mode.

    `dataset` gives (input, label) pairs; if it has `set_epoch(epoch)`, that is called before every epoch. The
    order of the samples depends on the seed and the epoch alone; a last batch of a single sample is left out
    (batch norm cannot learn from it). Images (inputs of C, H, W) run in the channels-last memory format. `teacher`,
    on the same device, is what a recipe with `distil` learns from beside the labels.

    With `checkpoint` the run is saved there after every epoch, about once a minute, and on Ctrl-C or SIGTERM;
    calling again with the same arguments goes on from there. The file is kept at the end: the caller removes it.
    `log` gets one line of JSON per epoch, those of a run that goes on too; with `validation` (as in
    `zoo.evaluate.evaluate`) accuracy and cross-entropy on it stand there beside those of training.

    Raises ZooError if the loss or a batch-norm statistic is not finite, the data holds NaN, the checkpoint is of
    another run, it or the log cannot be written, the run was interrupted, or a recipe that distils gets no teacher.
    """
    if (recipe.distil > 0) != (teacher is not None):
        raise ZooError("a teacher and a recipe with distil above 0 go together: give both or neither")
    if distributed.rank() > 0:
        progress, log = False, None
    check_seed(seed)
    distributed.check_same("the number of training samples", size_of(dataset))
    run = _Run(model, dataset, recipe, seed, workers, teacher, validation)
    with state.own_randomness(run.device, seed), state.signals(checkpoint is not None) as stopped:
        if checkpoint is not None:
            run.load(checkpoint)
        check_log(log)
        write_log(log, run.state.history)  # one that was lost is there again
        saved = time.monotonic()
        with run.bar(progress) as bar:
            while run.state.epoch < recipe.epochs:
                for finished in run.epoch(bar):
                    due, stop = distributed.any_rank(time.monotonic() - saved > SAVE_SECONDS, bool(stopped))
                    if checkpoint is not None and (finished or due or stop):
                        run.save(checkpoint)
                        saved = time.monotonic()
                    if finished:
                        write_log(log, run.state.history)
                    if stop:
                        raise ZooError(
                            f"stopped in epoch {min(run.state.epoch + 1, recipe.epochs)} of {recipe.epochs}; "
                            "what was done is saved, and the same command goes on from here"
                        )
                if progress and bar.disable:
                    print(epoch_line(run.state.history, recipe.epochs), file=sys.stderr, flush=True)
    run.finish()
    return model.eval()


class _Run:
    def __init__(
        self, model: nn.Module, dataset: Dataset[Any], recipe: Recipe, seed: int, workers: int,
        teacher: nn.Module | None = None, validation: Samples | None = None,
    ) -> None:  # fmt: skip
        self.model, self.dataset, self.recipe, self.seed, self.workers = model, dataset, recipe, seed, workers
        self.validation = validation
        self.device = model_device(model)
        self.state = State()
        self.steps = len(self.order(0))  # of one epoch
        if self.steps == 0:
            raise ZooError(f"{size_of(dataset)} training samples are too few: batch norm needs 2 or more")
        distributed.broadcast_tensors(tensor for tensor in model.state_dict().values())
        self.images = dataset[0][0].ndim == 3
        if self.images:
            model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.loss = TrainingLoss(recipe, teacher)
        # Scaling keeps small gradients of half precision from becoming 0; elsewhere it does nothing.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self.average: AveragedModel | None = None
        if recipe.average:
            ema = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        self.identity = {"recipe": asdict(recipe), "seed": seed, "samples": size_of(dataset), "shapes": shapes}

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as lists of sample numbers."""
        generator = generator_for(self.seed, epoch)
        order = torch.randperm(size_of(self.dataset), generator=generator).tolist()
        cut = [[order[i] for i in batch] for batch in consecutive(len(order), self.recipe.batch_size)]
        return [batch for batch in cut if len(batch) > 1]

    def epoch(self, bar: Any) -> Iterator[bool]:
        """Train from where the state stands to the end of the epoch.

        Yields whenever the state is whole and may be saved: True at the end of the epoch, False inside it.
        """
        state, recipe = self.state, self.recipe
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(state.epoch)
        self.model.train()
        own = torch.tensor([state.loss, state.correct, state.seen], dtype=torch.float64, device=self.device)
        if distributed.rank() > 0:
            own.zero_()  # what was summed before is the first's
        begin = time.monotonic() - state.seconds
        rest = [self.shares(batch) for batch in self.order(state.epoch)[state.step :]]
        numbers = [[number for share in each for number in share.numbers] for each in rest]
        data = batches(self.dataset, numbers, device=self.device, workers=self.workers)
        for parts, (inputs, labels) in zip(rest, data, strict=True):
            rate = recipe.rate(state.epoch * self.steps + state.step, self.steps)
            own += self.step(inputs, labels, parts, rate)
            state.step += 1
            bar.update()
            last = state.step == self.steps
            if last or self.device.type == "cpu" or state.step % LOOK_STEPS == 0:
                loss, correct, seen = distributed.all_reduce(own.clone()).tolist()
                state.loss, state.correct, state.seen = loss, int(correct), int(seen)
                state.seconds = time.monotonic() - begin
                self.check(rate)
                bar.set_postfix(epoch=f"{state.epoch + 1}/{recipe.epochs}", loss=f"{loss / seen:.3f}")
                if not last:
                    yield False
        self.check_statistics()
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "loss": state.loss / state.seen,
                "train_accuracy": state.correct / state.seen,
                **self.validated(),
                "lr": rate,
                "seconds": round(time.monotonic() - begin, 2),
            }
        )
        self.state = State(epoch=state.epoch + 1, history=state.history)
        yield True

    def shares(self, batch: list[int]) -> list[Share]:
        return shares(batch, max(1, min(self.recipe.accumulate, len(batch) // 2)))

    def step(self, inputs: Tensor, labels: Tensor, parts: list[Share], rate: float) -> Tensor:
        """One step of descent on a batch, of which these are this process's samples, part after part; returns
        (loss, correct, samples) summed over them."""
        if self.images:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        size, sizes = sum(part.size for part in parts), [len(part.numbers) for part in parts]
        for part, some, wanted in zip(parts, torch.split(inputs, sizes), torch.split(labels, sizes), strict=True):
            with self.loss.autocast(self.device), distributed.sync_batch_norms(part.size):
                logits = self.model(some)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if self.state.epoch == self.state.step == 0:
                check_logits(logits, wanted)
            loss = self.loss(logits, some, wanted)
            counted = len(wanted) * part.counts
            self.scaler.scale(loss * (counted / size)).backward()  # type: ignore[no-untyped-call]
            if counted:
                correct = (logits.detach().argmax(1) == wanted).sum()
                counts = [loss.detach() * counted, correct, torch.full_like(correct, counted)]
                sums += torch.stack(counts).double()
        if distributed.is_distributed():
            _sum_gradients(self.model)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return sums

    def finish(self) -> None:
        """Leave the model as the result: its average where the recipe asks for one, in the usual memory format."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        if self.images:
            self.model.to(memory_format=torch.contiguous_format)

    def check(self, rate: float) -> None:
        """The sum since the start of the epoch is NaN as soon as the loss of one step was."""
        if not torch.isfinite(torch.tensor(self.state.loss)):
            raise ZooError(
                f"the loss is no longer finite in epoch {self.state.epoch + 1}, step {self.state.step}: "
                f"lower the learning rate (it was {rate:.3g} there) or lengthen the warm-up"
            )

    def check_statistics(self) -> None:
        """In training a batch norm does not read its running statistics, so the loss stays finite when they are not."""
        for name, module in self.model.named_modules():
            running = (module.running_mean, module.running_var) if isinstance(module, _BatchNorm) else ()
            if not all(torch.isfinite(tensor).all() for tensor in running if tensor is not None):
                other = "" if self.recipe.precision == "float32" else ", or train in --precision float32"
                raise ZooError(
                    f"the running statistics of {name} are NaN or infinite after epoch {self.state.epoch + 1}: "
                    f"lower the learning rate{other}"
                )

    def validated(self) -> dict[str, float]:
        """What the network, or its average, does on the validation part; nothing without one."""
        if self.validation is None:
            return {}
        model = self.model if self.average is None else self.average.module
        # No larger than what a part of a training step holds, which fits.
        size = max(1, min(64, self.recipe.batch_size // self.recipe.accumulate // distributed.world_size()))
        found = evaluate(model, self.validation, batch_size=size, workers=self.workers)
        return {"validation_accuracy": found.accuracy, "validation_loss": found.cross_entropy}

    def bar(self, progress: bool) -> Any:
        """A bar over all steps of the run on a terminal; elsewhere it is disabled and one line per epoch follows."""
        done = self.state.epoch * self.steps + self.state.step
        total = self.recipe.epochs * self.steps
        return tqdm(total=total, initial=done, disable=None if progress else True, unit="batch", dynamic_ncols=True)

    def save(self, path: Path) -> None:
        content = {
            "identity": self.identity,
            "state": asdict(self.state),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        state.save(path, content, self.device)

    def load(self, path: Path) -> None:
        saved = state.load(path, self.identity, self.device)
        if saved is None:
            return
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.state = State(**saved["state"])


def _sum_gradients(model: nn.Module) -> None:
    """Replace each gradient by its sum over processes, all in one exchange.

    torch's DistributedDataParallel hides it behind the backward pass, but changes the order of its sums after the first
    step, so that a run of three or more that goes on would round differently from one that was never stopped.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    sizes = [gradient.numel() for gradient in gradients]
    summed = distributed.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, new in zip(gradients, torch.split(summed, sizes), strict=True):
        gradient.copy_(new.view_as(gradient))
