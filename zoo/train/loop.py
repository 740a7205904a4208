"""Training and fine-tuning of classifiers: SGD with momentum, a learning rate per step, and runs that survive a kill.

The whole state of a run (weights, momentum, epoch, step, random state, log so far) is saved in one file, atomically. A
run that was killed at any moment and is started again goes on from that file and ends with the weights of an
uninterrupted run (bit for bit on a CPU; on a GPU as far as its kernels are deterministic). Nothing is selected while
training: the weights after the last step are the result, so the test samples play no part. A validation part is only
reported, after every epoch.

Several processes (`zoo.distributed.process_group`) train one network together: the batches are those of a single
process, each process runs its shard of them, and gradients and batch-norm statistics are those of the whole batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from zoo import distributed
from zoo.distributed import MicroBatch, micro_batches
from zoo.errors import ZooError
from zoo.evaluate import Samples, batch_indices, batches, evaluate, model_device, num_samples
from zoo.train.log import check_log, epoch_line, write_log
from zoo.train.recipe import Recipe
from zoo.train.signals import stop_signals
from zoo.train.state import TrainState, check_state, load_state, save_state, seeded_rng, unreadable
from zoo.train.step import TrainingStep
from zoo.utils import check_seed, generator_for, progress_bar, say

SAVE_SECONDS = 60.0  # between two saves inside an epoch
SYNC_STEPS = 16  # between two checks of the loss on a GPU: each check waits until the GPU has finished


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
    """Train the model in place, on the device that it is on, and return it in eval mode.

    dataset     (input, label) pairs; its method `set_epoch(epoch)`, if it has one, is called before every epoch. The
                order of the samples depends on the seed and the epoch only. A last batch of a single sample is left
                out, because one sample has no variance. Images (inputs of C, H, W) run channels-last
    checkpoint  file in which the run is saved after every epoch, about once a minute, and on Ctrl-C or SIGTERM; a call
                with the same arguments goes on from there. The caller removes it
    log         file that gets one line of JSON per epoch, also for the epochs before a resumption
    workers     processes that load data
    teacher     model on the same device, for a recipe with `distil`
    validation  samples as in `zoo.evaluate.evaluate`; the log then has accuracy and cross-entropy on them as well

    Raises ZooError if the loss or a batch-norm statistic is not finite, the data holds NaN, the checkpoint is of
    another run, it or the log cannot be written, the run was interrupted, or only one of `teacher` and `recipe.distil`
    is given.
    """
    if (recipe.distil > 0) != (teacher is not None):
        raise ZooError("a teacher and a recipe with distil above 0 go together: give both or neither")
    if distributed.rank() > 0:
        progress, log = False, None
    check_seed(seed)
    distributed.check_same("the number of training samples", num_samples(dataset))
    run = _Run(model, dataset, recipe, seed, workers, teacher, validation)
    with seeded_rng(run.device, seed), stop_signals(checkpoint is not None) as stopped:
        if checkpoint is not None:
            run.load(checkpoint)
        check_log(log)
        write_log(log, run.state.history)  # restores a log that was lost
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
                if progress and sys.stderr is not None and not sys.stderr.isatty():
                    say(epoch_line(run.state.history, recipe.epochs))
    run.step.finish()
    return model.eval()


class _Run:
    """The epochs of one training run: the order of the batches, sums for the log, checks, and the resume file."""

    def __init__(
        self, model: nn.Module, dataset: Dataset[Any], recipe: Recipe, seed: int, workers: int,
        teacher: nn.Module | None, validation: Samples | None,
    ) -> None:  # fmt: skip
        self.model, self.dataset, self.recipe, self.seed, self.workers = model, dataset, recipe, seed, workers
        self.validation = validation
        self.device = model_device(model)
        self.state = TrainState()
        self.steps_per_epoch = len(self.order(0))
        if self.steps_per_epoch == 0:
            raise ZooError(f"{num_samples(dataset)} training samples are too few: batch norm needs 2 or more")
        distributed.broadcast_tensors(model.state_dict().values())
        images = dataset[0][0].ndim == 3
        self.step = TrainingStep(model, recipe, device=self.device, images=images, teacher=teacher)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        self.identity = {"recipe": asdict(recipe), "seed": seed, "samples": num_samples(dataset), "shapes": shapes}

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as lists of sample indices."""
        order = torch.randperm(num_samples(self.dataset), generator=generator_for(self.seed, epoch)).tolist()
        shuffled = [[order[i] for i in batch] for batch in batch_indices(len(order), self.recipe.batch_size)]
        return [batch for batch in shuffled if len(batch) > 1]

    def epoch(self, bar: Any) -> Iterator[bool]:
        """Train from the current state to the end of the epoch.

        Yields at the steps where the state is complete and can be saved: False inside the epoch, True at its end.
        """
        state = self.state
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(state.epoch)
        self.model.train()
        local_sums = torch.tensor([state.loss, state.correct, state.seen], dtype=torch.float64, device=self.device)
        if distributed.rank() > 0:
            local_sums.zero_()  # the sums of an interrupted epoch are over all processes: rank 0 holds them
        begin = time.monotonic() - state.seconds
        batches_left = [self.parts(batch) for batch in self.order(state.epoch)[state.step :]]
        indices = [[index for part in parts for index in part.indices] for parts in batches_left]
        data = batches(self.dataset, indices, device=self.device, workers=self.workers)
        for parts, (inputs, labels) in zip(batches_left, data, strict=True):
            lr = self.recipe.lr_at(state.epoch * self.steps_per_epoch + state.step, self.steps_per_epoch)
            local_sums += self.step(inputs, labels, parts, lr, check=state.epoch == state.step == 0)
            state.step += 1
            bar.update()
            last = state.step == self.steps_per_epoch
            if last or self.device.type == "cpu" or state.step % SYNC_STEPS == 0:
                loss, correct, seen = distributed.all_reduce(local_sums.clone()).tolist()
                state.loss, state.correct, state.seen = loss, int(correct), int(seen)
                state.seconds = time.monotonic() - begin
                self.check_loss(lr)
                bar.set_postfix(epoch=f"{state.epoch + 1}/{self.recipe.epochs}", loss=f"{loss / seen:.3f}")
                if not last:
                    yield False
        self.check_statistics()
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "loss": state.loss / state.seen,
                "train_accuracy": state.correct / state.seen,
                **self.validation_metrics(),
                "lr": lr,
                "seconds": round(time.monotonic() - begin, 2),
            }
        )
        self.state = TrainState(epoch=state.epoch + 1, history=state.history)
        yield True

    def parts(self, batch: list[int]) -> list[MicroBatch]:
        """The parts in which a batch runs, of 2 samples or more each."""
        return micro_batches(batch, max(1, min(self.recipe.accumulate, len(batch) // 2)))

    def check_loss(self, lr: float) -> None:
        """Raise ZooError if the sum of the losses of this epoch is NaN or infinite."""
        if not torch.isfinite(torch.tensor(self.state.loss)):
            raise ZooError(
                f"the loss is no longer finite in epoch {self.state.epoch + 1}, step {self.state.step}: "
                f"lower the learning rate (it was {lr:.3g} there) or lengthen the warm-up"
            )

    def check_statistics(self) -> None:
        """Raise ZooError if a running mean or variance is not finite, which the loss in training mode does not show."""
        for name, module in self.model.named_modules():
            running = (module.running_mean, module.running_var) if isinstance(module, _BatchNorm) else ()
            if not all(torch.isfinite(tensor).all() for tensor in running if tensor is not None):
                other = "" if self.recipe.precision == "float32" else ", or train in `precision=float32`"
                raise ZooError(
                    f"the running statistics of {name} are NaN or infinite after epoch {self.state.epoch + 1}: "
                    f"lower the learning rate{other}"
                )

    def validation_metrics(self) -> dict[str, float]:
        """Accuracy and cross-entropy of the network, or of its average, on the validation part, for the log."""
        if self.validation is None:
            return {}
        # As large as a part of a training step at most: that is known to fit into memory.
        size = max(1, min(64, self.recipe.batch_size // self.recipe.accumulate // distributed.world_size()))
        result = evaluate(self.step.averaged_model, self.validation, batch_size=size, workers=self.workers)
        return {"validation_accuracy": result.accuracy, "validation_loss": result.cross_entropy}

    def bar(self, progress: bool) -> Any:
        """A progress bar over all steps of the run."""
        done = self.state.epoch * self.steps_per_epoch + self.state.step
        total = self.recipe.epochs * self.steps_per_epoch
        return progress_bar(title="train", total=total, initial=done, unit="batch", show=progress)

    def save(self, path: Path) -> None:
        content = {"identity": self.identity, "state": asdict(self.state), **self.step.state_dict()}
        save_state(path, content, self.device)

    def load(self, path: Path) -> None:
        content = load_state(path, self.identity, self.device)
        if content is None:
            return
        try:
            state = TrainState(**content["state"])
            check_state(state, self.recipe.epochs, self.steps_per_epoch)
            self.step.load_state_dict(content)
        except Exception as error:  # torch says in many ways that a tensor is missing or of another shape
            raise unreadable(path, error) from error
        self.state = state
