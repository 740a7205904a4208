"""The copy of a network that a pruning pass works on, and its data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import TracebackType

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
# So many samples tell what errors do at the output.
WEIGHT_SAMPLES = 256


class PruningSession:
    """A context manager: while it is open every reader of the copy can be gated.

    inputs (M, ...), labels (M,) or None; the samples are put into a random order by the seed, for the first batches
    stand for all when a look ends early (`Layer.gap`). precision: of its chains.
    """

    def __init__(
        self, model: nn.Module, inputs: Tensor, labels: Tensor | None, config: MethodConfig, *, seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:  # fmt: skip
        self.original, self.config, self.seed, self.cache_bytes = model, config, seed, cache_bytes
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.groups = groups_of(self.model)
        self.precision: torch.dtype = getattr(torch, config.search.eval_dtype)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)).to(inputs.device)
        self.labels = None if labels is None else labels[order]
        layout = torch.contiguous_format
        if inputs.dim() == 4:  # convolutions on images run faster so; values do not change
            layout = torch.channels_last
            self.model.to(memory_format=layout)
        # On a CPU what runs at a time should stay in its caches.
        self.forward_batch = config.batch_size if inputs.is_cuda else min(config.batch_size, CPU_BATCH)
        self.inputs = inputs[order].contiguous(memory_format=layout)
        self.batches = list(torch.split(self.inputs, self.forward_batch))  # views
        self.gates = Gates(self.groups)

    def __enter__(self) -> PruningSession:
        self.gates.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:
        self.gates.__exit__(kind, error, trace)

    def activation_cache(self) -> ActivationCache:
        return ActivationCache(stages_of(self.model), self.batches, memory=self.cache_bytes, precision=self.precision)

    @torch.no_grad()
    def logits(self, chain: ActivationCache) -> Tensor:
        """(M, C) of the network as it is now."""
        logits = torch.cat([chain.outputs(batch) for batch in range(len(chain.sizes))])
        if not bool(torch.isfinite(logits).all()):
            raise ZooError(
                "The network's outputs on the pruning data are not all finite numbers: mend the weights first."
            )
        return logits

    @torch.no_grad()
    def run(self, model: nn.Module) -> Tensor:
        """(M, C) what another network gives for the same samples."""
        chain = ActivationCache([Stage("network", model, ())], self.batches, memory=0)
        return torch.cat([chain.outputs(batch) for batch in range(len(chain.sizes))])

    def evaluator(
        self, group: NeuronGroup, chain: ActivationCache, reference: Tensor, *,
        fisher: Mapping[str, Sequence[Tensor]] | None = None, reconstruct: bool = False,
    ) -> GroupEvaluator:  # fmt: skip
        """The group in its network, the chain moved in front of it, held against `reference`: logits of all samples, or
        the first of them."""
        chain.advance(chain.stage_range(group)[0])
        labels = None if self.labels is None else self.labels[: len(reference)]
        return GroupEvaluator(
            group, chain, self.gates, Target(self.config.discrepancy, reference, labels), self.config,
            fisher=None if fisher is None else fisher[group.name], reconstruct=reconstruct,
        )  # fmt: skip

    def reset(self) -> None:
        """Undo what a pass has done to the copy: its gates and its readers' weights."""
        for group in self.groups:
            self.gates.set(group.name, None)
        if self.config.repair.update_weights:
            self.model.load_state_dict(self.original.state_dict())

    def fisher_matrices(self) -> Mapping[str, Sequence[Tensor]] | None:
        """Gamma of every reader (`zoo.prune.statistics.fisher`), or None where the weighting is off."""
        if self.config.repair.weighting == "none":
            return None
        # A backward pass keeps every activation, so a few samples at a time.
        few = max(1, self.forward_batch // 4)
        some = [part for batch in self.batches for part in torch.split(batch, few)][: -(-WEIGHT_SAMPLES // few)]
        labels = None
        if self.labels is not None:
            labels = [part for batch in torch.split(self.labels, self.forward_batch) for part in torch.split(batch, few)]
        generator = torch.Generator().manual_seed(self.seed)
        return fisher_matrices(
            self.model, self.groups, some, generator, kind=self.config.discrepancy, labels=labels,
            label_weight=self.config.repair.label_weight,
        )  # fmt: skip
