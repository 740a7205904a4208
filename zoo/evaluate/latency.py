"""Forward times of networks, measured side by side."""

from __future__ import annotations

import copy
import platform
import statistics
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ZooError, suggest
from zoo.timing import interleaved_seconds

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODES = ("eager", "compiled", "cuda_graph")


@dataclass(frozen=True)
class Times:
    """Forward time of one model over `rounds` rounds, and its speed-up over the first model of the same measurement.

    Seconds per batch: `median`, `p5` and `p95`. A speed-up is the first model's time divided by this model's time in
    the same round; `speedup` is the median over rounds, `speedup_low` and `speedup_high` the 5th and 95th percentile. A
    shared or throttled processor changes seconds far more than it changes ratios within a round.
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
    """Time the forward pass of every model on the batch x (B, ...), interleaved (see `time_calls`).

    The models run as copies on x's device in eval mode, without autograd; images in the channels-last format. `dtype`
    is that of weights and activations; float32 follows PyTorch's settings for TF32. `mode` is one of MODES, see
    `prepare_call`.

    Raises ZooError for an unknown dtype or mode, and for a mode that the device cannot run.
    """
    if dtype not in DTYPES:
        raise ZooError(f"unknown dtype {dtype!r}: {suggest(dtype, DTYPES)}")
    if mode not in MODES:
        raise ZooError(f"unknown mode {mode!r}: {suggest(mode, MODES)}")
    if mode == "cuda_graph" and x.device.type != "cuda":
        raise ZooError("CUDA graphs need a CUDA GPU: use `mode=eager` or `mode=compiled`")
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
    """Time functions without arguments, interleaved (`zoo.timing`); speed-ups are over the first function.

    Raises ZooError without a function or a round to time.
    """
    if not calls or repeats < 1:
        raise ZooError("timing needs one model or more and one repeat or more")
    times = interleaved_seconds(calls, device, repeats=repeats, warmup=warmup, seed=seed)
    first = times[next(iter(calls))]
    return {name: _summary(first, seconds) for name, seconds in times.items()}


def device_name(device: torch.device) -> str:
    """The GPU's model name; "cpu" for any CPU, because times of a shared processor do not characterise its model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def processor_name(device: torch.device) -> str:
    """The model of the GPU, or of this machine's CPU with the number of threads that torch uses."""
    if device.type == "cuda":
        return device_name(device)
    cpuinfo = Path("/proc/cpuinfo")  # says more than platform.processor() where it exists
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = next(iter(models), platform.processor() or platform.machine() or "a CPU")
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"


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
    return _captured(model, x)


def _captured(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A function that replays the model's forward pass on x as a CUDA graph."""
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

    def replay(model: nn.Module = model) -> Tensor:  # the weights must live as long as the graph that reads them
        graph.replay()
        return output

    return replay


def _summary(first: list[float], seconds: list[float]) -> Times:
    ratios = [a / b for a, b in zip(first, seconds, strict=True)]
    return Times(
        len(seconds),
        statistics.median(seconds),
        *_percentiles(seconds),
        statistics.median(ratios),
        *_percentiles(ratios),
    )


def _percentiles(values: list[float]) -> tuple[float, float]:
    """The 5th and 95th percentile, interpolated linearly."""
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))
    return low.item(), high.item()
