"""What a network costs: parameters, multiply-accumulates (MACs), and forward time.

MACs are counted over convolutions and linear layers for one sample. The paper counts 2 more for every output
element of a batch norm (MobileNetV2 at 224 x 224: 300.8M and 314.1M); both counts are given side by side, and
the two are never to be mixed in one table.
"""

from __future__ import annotations

import copy
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from zoo.errors import ZooError, suggest
from zoo.evaluate.loader import model_device
from zoo.evaluate.metrics import eval_mode

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODES = ("eager", "compiled", "cuda_graph")


@dataclass(frozen=True)
class Counts:
    """Of one sample: MACs of convolutions and linear layers, and the same plus 2 per batch-norm output element."""

    parameters: int
    macs: int
    macs_paper: int


def count(model: nn.Module, sample: tuple[int, ...] | Tensor) -> Counts:
    """Count by one forward pass of a single sample: its shape, for instance (3, 224, 224), or inputs (1, ...).

    A module with a method `count_macs(*inputs) -> (macs, batch-norm output elements)` speaks for itself and for
    all modules inside it: that is how a layer that computes less than its parts suggest counts what it does.
    """
    counted = count_layers(model, sample)
    macs, norms = (sum(each[i] for each in counted.values()) for i in (0, 1))
    return Counts(sum(p.numel() for p in model.parameters()), macs, macs + 2 * norms)


def count_layers(model: nn.Module, sample: tuple[int, ...] | Tensor) -> dict[nn.Module, tuple[int, int]]:
    """The same layer by layer: (MACs, batch-norm output elements) of one sample."""
    counted: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, macs: int, norms: int) -> None:
        before = counted.get(module, (0, 0))  # a module may be called more than once
        counted[module] = (before[0] + macs, before[1] + norms)

    def own(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        note(module, *module.count_macs(*inputs))  # type: ignore[operator]

    def layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _BatchNorm):
            note(module, 0, output.numel())
        elif isinstance(module, nn.Linear):
            note(module, output.numel() * module.in_features, 0)
        elif isinstance(module, _ConvNd):
            note(module, output.numel() * module.weight[0].numel(), 0)

    handles = []
    spoken_for: set[nn.Module] = set()
    for module in model.modules():  # parents come before their children
        if module in spoken_for:
            continue
        if hasattr(module, "count_macs"):
            handles.append(module.register_forward_hook(own))
            spoken_for.update(module.modules())
        elif isinstance(module, nn.Linear | _BatchNorm | _ConvNd):
            if isinstance(module, _ConvNd) and module.transposed:
                raise ZooError("transposed convolutions cannot be counted yet")
            handles.append(module.register_forward_hook(layer))
    if not isinstance(sample, Tensor):
        sample = torch.randn(1, *sample, generator=torch.Generator().manual_seed(0))
        sample = sample.to(next((p.dtype for p in model.parameters() if p.is_floating_point()), sample.dtype))
    try:
        with eval_mode(model), torch.inference_mode():
            model(sample.to(model_device(model)))
    finally:
        for handle in handles:
            handle.remove()
    return counted


@dataclass(frozen=True)
class Times:
    """Forward time of one model over `rounds` rounds, and how much faster it was than the first of the same run.

    Seconds per batch: `median`, `p5` and `p95`. Speed-up: the first model's time divided by this one's in the
    same round; the median of those ratios, and the 5th and 95th percentile of them. A shared or throttled
    processor moves seconds far more than it moves ratios within a round.
    """

    rounds: int
    median: float
    p5: float
    p95: float
    speedup: float
    speedup_low: float
    speedup_high: float


def forward_times(
    models: dict[str, nn.Module],
    x: Tensor,
    *,
    repeats: int = 30,
    warmup: int = 5,
    dtype: str = "float32",
    mode: str = "eager",
    seed: int = 0,
) -> dict[str, Times]:
    """Time the forward pass of every model on the batch x (B, ...), interleaved.

    The rounds are those of `time_calls`. The models run as copies on x's device in eval mode, without autograd; images
    in the channels-last format. `dtype` is that of weights and activations; float32 follows PyTorch's settings for
    TF32. `mode` is one of MODES, see `prepare_call`.

    Raises ZooError for an unknown dtype or mode, or a mode that the device cannot run.
    """
    if dtype not in DTYPES:
        raise ZooError(f"unknown dtype {dtype!r}: {suggest(dtype, DTYPES)}")
    if mode not in MODES:
        raise ZooError(f"unknown mode {mode!r}: {suggest(mode, MODES)}")
    if mode == "cuda_graph" and x.device.type != "cuda":
        raise ZooError("CUDA graphs need a CUDA GPU: use --mode eager or --mode compiled")
    x = x.to(DTYPES[dtype])
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    # Events, streams and graphs belong to the current device, which x need not be on.
    current = torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
    with torch.inference_mode(), current:
        calls = {name: prepare_call(model, x, mode) for name, model in models.items()}
        return time_calls(calls, x.device, repeats=repeats, warmup=warmup, seed=seed)


def time_calls(
    calls: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int, warmup: int, seed: int = 0
) -> dict[str, Times]:
    """Time functions without arguments, interleaved; the first is the one that speed-ups refer to.

    Every round runs each function once, in a newly shuffled order, so that slow moments of the machine hit all alike.
    The time is between two device events on CUDA, and the wall clock on a CPU. `warmup` rounds are not counted.

    Raises ZooError without a function or a round to time.
    """
    if not calls or repeats < 1:
        raise ZooError("timing needs one model or more and one repeat or more")
    shuffle, order = random.Random(seed), list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        shuffle.shuffle(order)
        for name in order:
            spent = _seconds(calls[name], device)
            if turn >= warmup:
                seconds[name].append(spent)
    first = seconds[next(iter(calls))]
    return {name: _summary(first, each) for name, each in seconds.items()}


def device_name(device: torch.device) -> str:
    """The GPU's model name, or plainly "cpu": times of a shared processor say nothing about its name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def prepare_call(model: nn.Module, x: Tensor, mode: str) -> Callable[[], Tensor]:
    """A function without arguments that returns the output of a copy of the model for the current content of x.

    "eager" calls the copy, "compiled" what torch.compile makes of it, "cuda_graph" replays a captured graph, whose
    output tensor is the same one each time. Call this under torch.inference_mode.

    Raises ZooError for a network that cannot be captured as a CUDA graph.
    """
    model = copy.deepcopy(model).eval().to(x.device, x.dtype)
    if x.ndim == 4:
        model.to(memory_format=torch.channels_last)
    if mode == "compiled":
        compiled = torch.compile(model, dynamic=False)
        return lambda: compiled(x)
    if mode == "eager":
        return lambda: model(x)
    side = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):
        for _ in range(3):  # libraries choose their kernels and workspaces before anything is captured
            model(x)
    torch.cuda.current_stream(x.device).wait_stream(side)
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(x.device)
    try:
        with torch.cuda.graph(graph, stream=side):
            output: Tensor = model(x)
    except RuntimeError as error:
        torch.cuda.set_stream(before)  # a capture that fails may leave its own stream behind as the current one
        raise ZooError(f"this network cannot be captured as a CUDA graph: {error}") from error

    def replay(model: nn.Module = model) -> Tensor:  # the copy's weights must live as long as the graph that reads them
        graph.replay()
        return output

    return replay


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1000


def _summary(first: list[float], own: list[float]) -> Times:
    ratios = [a / b for a, b in zip(first, own, strict=True)]
    return Times(
        len(own),
        statistics.median(own),
        *_tails(own),
        statistics.median(ratios),
        *_tails(ratios),
    )


def _tails(values: list[float]) -> tuple[float, float]:
    """The 5th and 95th percentile; the extremes if there are too few values to tell."""
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))
    return low.item(), high.item()
