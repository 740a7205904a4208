"""The Triton kernels in Triton's interpreter, in a process of their own: against plain torch and against the layer."""

import contextlib
import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from zoo.models import kernels, knn_implementations
from zoo.models.edgeconv import edge_max
from zoo.models.kernels import autotune
from zoo.models.point_ops import knn

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

NOWHERE = torch.device("cuda:0")
PRELUDE = """
import torch
from zoo.models.kernels import triton_kernels as kernels
from zoo.models.point_ops import knn
torch.manual_seed(0)
"""
SEARCH = """
x = torch.randn({batch}, {channels}, {n})
found = kernels.nearest(x.transpose(1, 2), {k})
assert found.shape == ({batch}, {n}, {k})
assert torch.equal(found.sort(2).values, knn(x, {k}).sort(2).values)
norms = torch.cdist(x.mT, x.mT, compute_mode="donot_use_mm_for_euclid_dist").gather(2, found)
assert (norms.diff(dim=2) > -1e-3).all(), "nearest first"
"""
MAXIMUM = """
P, O, k = {points}, {width}, {k}
neighbour, centre = torch.randn(P, O), torch.randn(P, O)
rows = torch.randint(0, P, (P, k))
gain, shift = torch.randn(O), torch.randn(O)
truth = torch.nn.functional.leaky_relu(gain * (neighbour[rows].amax(1) + centre) + shift, 0.2)
torch.testing.assert_close(kernels.edge_max(neighbour, centre, rows, gain, shift, 0.2), truth)
neighbour[rows[0, 0]] = float("nan")
assert kernels.edge_max(neighbour, centre, rows, gain, shift, 0.2)[0].isnan().all(), "NaN is not swallowed"
"""


def failure(program):
    """What a program says that fails in the interpreter; nothing of one that passes its own assertions."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program], capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr[-2000:] or f"exit code {done.returncode}"


@pytest.mark.parametrize(
    "size",
    [
        {"batch": 1, "channels": 70, "n": 20, "k": 20},
        pytest.param({"batch": 2, "channels": 3, "n": 40, "k": 5}, marks=pytest.mark.slow),
    ],
    ids=["channels past one tile, k = N", "several tiles of rows"],
)
def test_search_finds_the_neighbours_that_torch_finds(size):
    assert failure(SEARCH.format(**size)) == ""


@pytest.mark.slow
def test_search_over_several_tiles_of_columns():
    assert failure(SEARCH.format(batch=1, channels=3, n=70, k=17)) == ""


def test_maximum_equals_the_written_out_one():
    assert failure("".join(MAXIMUM.format(points=p, width=w, k=k) for p, w, k in [(37, 20, 4), (9, 130, 1)])) == ""


def test_both_kernels_compile_for_an_h100():
    """Triton brings the assembler, so that no GPU is needed; in a process without TRITON_INTERPRET."""
    program = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from zoo.models.kernels import triton_kernels
tensors = {"points": "*fp32", "half_norm": "*fp32", "index": "*i64", "N": "i32", "C": "i32", "k": "i32"}
search = {"ROWS": 16, "COLS": 64, "DEPTH": 64, "KEPT": 32}
values = {"neighbour": "*bf16", "centre": "*bf16", "rows": "*i64", "gain": "*fp32", "shift": "*fp32", "out": "*fp32",
          "P": "i32", "width": "i32", "k": "i32", "slope": "fp32"}
for kernel, types, sizes in ((triton_kernels._nearest, tensors, search),
                             (triton_kernels._edge_max, values, {"POINTS": 16, "CHANNELS": 64})):
    signature = {**types, **dict.fromkeys(sizes, "constexpr")}
    constants = {(list(signature).index(name),): value for name, value in sizes.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("batch", "channels", "n", "k"), [(4, 3, 1024, 20), (2, 64, 1000, 20), (1, 128, 333, 40)])
def test_on_a_gpu_every_way_to_search_finds_the_same(batch, channels, n, k):
    x = torch.randn(batch, channels, n, generator=torch.Generator().manual_seed(0))
    truth = torch.cdist(x.double().mT, x.double().mT).sort(2).values[:, :, :k]
    for way in (knn, lambda x, k: autotune.load_triton().nearest(x.mT, k)):
        index = way(x.cuda(), k).cpu()
        found = torch.cdist(x.double().mT, x.double().mT).gather(2, index).sort(2).values
        torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_maximum_is_that_of_torch():
    P, width, k = 4096, 256, 20
    torch.manual_seed(0)
    neighbour, centre, rows = torch.randn(P, width), torch.randn(P, width), torch.randint(0, P, (P, k))
    gain, shift = torch.randn(width), torch.randn(width)
    given = (neighbour, centre, rows, gain, shift)
    truth = edge_max(*given, 0.2)
    on_gpu = autotune.load_triton().edge_max(*(each.cuda() for each in given), 0.2)
    torch.testing.assert_close(on_gpu.cpu(), truth, rtol=1e-5, atol=1e-5)


def test_they_can_be_switched_off(monkeypatch):
    for module in (autotune, kernels):
        monkeypatch.setattr(module, "load_triton", module.load_triton.__wrapped__)
    assert autotune.load_triton() is not None
    assert list(knn_implementations(torch.randn(1, 3, 30), 4)) == ["two levels", "one level", "triton"]
    monkeypatch.setenv("ZOO_TRITON", "0")
    assert autotune.load_triton() is None
    assert list(knn_implementations(torch.randn(1, 3, 30), 4)) == ["two levels", "one level"]


def test_each_key_is_timed_once_and_the_fastest_implementation_is_taken(monkeypatch):
    monkeypatch.setattr(autotune, "_FASTEST", {})
    times, timed = {"slow": 3.0, "fast": 1.0, "other": 2.0}, []
    implementations = {name: lambda name=name: name for name in times}

    def measure(call, device, *, must_run):
        timed.append((call(), must_run))
        return times[call()]

    monkeypatch.setattr(autotune, "_median_seconds", measure)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert [autotune.run_fastest("key", implementations, NOWHERE) for _ in range(3)] == ["fast"] * 3
    assert timed == [("slow", True), ("fast", False), ("other", False)]
    assert autotune.fastest_known() == {"key": "fast"}


def test_nothing_is_timed_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(autotune, "_FASTEST", {"seen": "b"})
    monkeypatch.setattr(autotune, "_median_seconds", lambda call, device, must_run: pytest.fail("measured"))
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    implementations = {"a": lambda: "a", "b": lambda: "b"}
    assert autotune.run_fastest("unseen", implementations, NOWHERE) == "a"
    assert autotune.run_fastest("seen", implementations, NOWHERE) == "b"
    assert autotune.fastest_known() == {"seen": "b"}


def test_an_implementation_that_raises_is_never_the_fastest_but_plain_torch_must_run(monkeypatch):
    def fails():
        raise RuntimeError("no compiler")

    assert autotune._median_seconds(fails, NOWHERE, must_run=False) == float("inf")
    with pytest.raises(RuntimeError, match="no compiler"):
        autotune._median_seconds(fails, NOWHERE, must_run=True)
