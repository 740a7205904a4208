"""DGCNN under torch.compile, torch.export, autocast and CUDA graphs: the same logits, to a stated error."""

import shutil
import time

import pytest
import torch
from torch import nn

from zoo.models import EdgeConv, dgcnn
from zoo.models.point_ops import knn

WIDTHS = {"edge1": 8, "edge2": 8, "edge3": 8, "edge4": 12, "conv5": 16, "linear1": 12, "linear2": 10}


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = dgcnn(num_classes=5, widths=WIDTHS, k=4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    return model.eval(), torch.randn(2, 3, 40)


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_compile_captures_one_graph_with_the_same_logits_and_gradients(small, training):
    model, x = small
    model.train(training).drop.p = 0.0
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for call in (model, compiled):
        model.zero_grad()
        y = call(x)
        y.square().sum().backward()
        results.append((y.detach(), model.edge1.conv.weight.grad.clone()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_takes_clouds_of_another_size(small):
    model, _ = small
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for n in (40, 300, 217):
            x = torch.randn(2, 3, n)
            assert relative(compiled(x), model(x)) < 1e-5


@pytest.mark.slow
def test_a_new_number_of_points_costs_no_more_than_the_first_compilation():
    """The third size took minutes: bounds for all sizes of what depends on the number of points."""
    torch.manual_seed(0)
    model = dgcnn(num_classes=5, widths=WIDTHS).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    seconds = []
    with torch.no_grad():
        for shape in ((2, 3, 40), (2, 3, 300), (3, 3, 217), (4, 3, 512)):
            x = torch.randn(shape)
            start = time.process_time()
            y = compiled(x)
            seconds.append(time.process_time() - start)
            assert relative(y, model(x)) < 1e-5
    assert max(seconds[1:]) < 1.5 * seconds[0]  # alike; the margin is for other work on the machine
    assert seconds[3] < 0.3 * seconds[0]  # any batch and number of points by now: nothing is compiled


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_inductor_code_of_a_layer_is_right_to_1e_5():
    torch.manual_seed(0)
    layer, x = EdgeConv(3, 8, k=4).eval(), torch.randn(2, 3, 40)
    nn.init.uniform_(layer.bn.weight, -1, 1)
    torch._dynamo.reset()
    with torch.no_grad():
        assert relative(torch.compile(layer, fullgraph=True)(x), layer(x)) < 1e-5


def test_an_exported_program_takes_any_batch_and_any_number_of_points(small):
    model, x = small
    free = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim("points", min=8, max=4096)}
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=(free,)).module()
        for shape in ((2, 3, 40), (1, 3, 9), (5, 3, 300)):
            x = torch.randn(shape)
            assert relative(program(x), model(x)) < 1e-5


def test_autocast_searches_in_float32_and_is_right_to_a_few_percent(small):
    model, x = small
    wide = torch.randn(2, 64, 100) * 0.05 + 3  # in bfloat16 these points lie on top of each other
    with torch.no_grad():
        truth, neighbours = model(x), knn(wide, 7)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(knn(wide, 7).sort(2).values, neighbours.sort(2).values)
            y = model(x)
    assert y.dtype == torch.bfloat16
    assert 1e-5 < relative(y, truth) < 0.1


def test_autocast_trains(small):
    model, x = small
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(x).float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("dtype", "off"), [(torch.bfloat16, 5e-3), (torch.float16, 1e-3)])
def test_autocast_takes_statistics_of_many_edges_in_float32(dtype, off):
    """A sum of squares over 2e5 edges is beyond float16, and in bfloat16 the variance would be off by percents."""
    torch.manual_seed(0)
    x = torch.randn(20, 64, 500)
    exact, rounded = (EdgeConv(64, 32, k=20).train() for _ in range(2))
    rounded.load_state_dict(exact.state_dict())
    exact(x)
    with torch.autocast("cpu", dtype=dtype):
        y = rounded(x)
    assert y.isfinite().all()
    for name in ("running_mean", "running_var"):
        assert relative(getattr(rounded.bn, name), getattr(exact.bn, name)) < off


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_cuda_graph_replays_the_same_logits(small):
    model, x = small[0].cuda(), small[1].cuda()
    with torch.no_grad():
        truth = model(x)
        for _ in range(3):
            model(x)
        graph, static = torch.cuda.CUDAGraph(), torch.zeros_like(x)
        with torch.cuda.graph(graph):
            y = model(static)
        static.copy_(x)
        graph.replay()
    assert relative(y, truth) < 1e-5
