"""The working copy of a network during a pruning pass, with its gates and the pruning data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models import NeuronGroup, Stage, groups_of, stages_of
from zoo.prune.engine.activation_cache import ActivationCache
from zoo.prune.engine.discrepancy import Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.group_evaluator import GroupEvaluator
from zoo.prune.options import CACHE_BYTES, MethodConfig
from zoo.prune.statistics import fisher_matrices

CPU_BATCH = 32
FISHER_SAMPLES = 256  # enough for the Fisher information at the readers' outputs


class PruningSession(ExitStack):
    """A context manager: while it is open, the readers of the copy can be gated.

    model        stays as it is, and is `original`; the copy is `model`
    inputs       (M, ...) the pruning samples
    labels       (M,) their classes, or None
    config       the method with its settings
    seed         of the order of the samples. They are shuffled once, so that the first batches of an evaluation that
                 ends early (`GroupEvaluator.gap`) are a random sample of all
    holdout      the fraction of the samples that judge a gap and choose nothing; they come first. 0: all do both
    cache_bytes  for the activations that are kept in front of a group
    """

    def __init__(
        self, model: nn.Module, inputs: Tensor, labels: Tensor | None, config: MethodConfig, *, seed: int = 0,
        holdout: float = 0.0, cache_bytes: int = CACHE_BYTES,
    ) -> None:  # fmt: skip
        super().__init__()
        self.original, self.config, self.seed, self.cache_bytes = model, config, seed, cache_bytes
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.groups = groups_of(self.model)
        self.precision: torch.dtype = getattr(torch, config.search.eval_dtype)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)).to(inputs.device)
        self.labels = None if labels is None else labels[order]
        layout = torch.contiguous_format
        if inputs.dim() == 4:  # faster for convolutions on images, with the same values
            layout = torch.channels_last
            self.model.to(memory_format=layout)
        # On a CPU the activations of one batch should stay in its caches.
        self.forward_batch = config.batch_size if inputs.is_cuda else min(config.batch_size, CPU_BATCH)
        self.inputs = inputs[order].contiguous(memory_format=layout)
        self.num_judges = min(round(holdout * len(inputs)), len(inputs) - 1) or len(inputs)
        # Views; no batch has samples of both parts.
        self.batches = [
            batch
            for part in (self.inputs[: self.num_judges], self.inputs[self.num_judges :])
            for batch in torch.split(part, self.forward_batch)
            if len(batch)
        ]
        self.gates = self.enter_context(Gates(self.groups))

    @property
    def choosers(self) -> Tensor:
        """(m, ...) the samples that neurons are chosen on: all where none are held out."""
        return self.inputs[self.num_judges % len(self.inputs) :]

    @property
    def chooser_batches(self) -> list[Tensor]:
        """The batches of these samples."""
        return list(torch.split(self.choosers, self.forward_batch))

    def activation_cache(self) -> ActivationCache:
        """An activation cache at the network's input."""
        return ActivationCache(
            stages_of(self.model), self.batches, cache_bytes=self.cache_bytes, precision=self.precision
        )

    @torch.no_grad()
    def logits(self, activations: ActivationCache) -> Tensor:
        """Logits (M, C) of the network with its gates and weights as they are now.

        Raises ZooError unless all are finite.
        """
        logits = torch.cat([activations.outputs(batch) for batch in range(len(activations.sizes))])
        if not bool(torch.isfinite(logits).all()):
            raise ZooError(
                "The network's outputs on the pruning data are not all finite numbers: fix the weights first."
            )
        return logits

    @torch.no_grad()
    def logits_of(self, model: nn.Module) -> Tensor:
        """Logits (M, C) of another network on the pruning samples, in float32."""
        activations = ActivationCache([Stage("network", model, ())], self.batches, cache_bytes=0)
        return torch.cat([activations.outputs(batch) for batch in range(len(activations.sizes))])

    def target(self, reference: Tensor) -> Target:
        """What the reference logits (M, C), or those of the first samples, are compared with."""
        labels = None if self.labels is None else self.labels[: len(reference)]
        return Target(self.config.discrepancy, reference, labels)

    def evaluator(
        self, group: NeuronGroup, activations: ActivationCache, reference: Tensor, *,
        fisher: Mapping[str, Sequence[Tensor]] | None = None, reconstruct: bool = False,
    ) -> GroupEvaluator:  # fmt: skip
        """The evaluator of a group, with the activations advanced to the stage of its first reader.

        reference    logits (M, C), or those of the first samples, that the pruned network is compared with
        fisher       the matrices of `fisher_matrices`, or None
        reconstruct  whether the readers' weights are solved for the neurons that are kept
        """
        activations.advance(activations.stage_range(group)[0])
        return GroupEvaluator(
            group, activations, self.gates, self.target(reference), self.config,
            fisher=None if fisher is None else fisher[group.name], reconstruct=reconstruct, judges=self.num_judges,
        )  # fmt: skip

    def reset(self) -> None:
        """Undo what a pass has done to the copy: its gates and its readers' weights."""
        for group in self.groups:
            self.gates.set(group.name, None)
        if self.config.repair.update_weights:
            self.model.load_state_dict(self.original.state_dict())

    def fisher_matrices(self) -> dict[str, list[Tensor]] | None:
        """Group name -> Gamma (O, O) of each reader (`zoo.prune.statistics.fisher`) of the network as it is now; None
        where local errors are not weighted."""
        repair = self.config.repair
        if repair.weighting == "none":
            return None
        # A backward pass keeps every activation, so it takes a quarter of the samples of a forward pass.
        backward_batch = max(1, self.forward_batch // 4)
        batches = [part for batch in self.chooser_batches for part in torch.split(batch, backward_batch)]
        batches = batches[: -(-FISHER_SAMPLES // backward_batch)]
        labels = None
        if self.labels is not None:
            first = self.num_judges % len(self.inputs)
            forward_batches = torch.split(self.labels[first:], self.forward_batch)
            labels = [part for batch in forward_batches for part in torch.split(batch, backward_batch)]
        return fisher_matrices(
            self.model, self.groups, batches, torch.Generator().manual_seed(self.seed), kind=self.config.discrepancy,
            labels=labels, label_weight=repair.label_weight,
        )  # fmt: skip
