"""One body of tests over every architecture, and torchvision's networks against torchvision's own."""

import inspect

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import zoo.models
from zoo.errors import ZooError
from zoo.models import ARCHS, build, groups_of, run, scaled_widths, stages_of

CLOUDS = ("dgcnn", "pointnet", "pointnet2")
# Parameters of the dense network in millions, with the classes that its source counts with.
MILLIONS = {
    "dgcnn": (40, 1.81),
    "mlp": (1, 0.0113),  # 10 -> 100 -> 100 -> 1
    "mobilenet_v2": (1000, 3.50),
    "mobilenet_v3_large": (1000, 5.48),
    "mobilenet_v3_small": (1000, 2.54),
    "pointnet": (40, 3.47),
    "pointnet2": (40, 1.48),
    "resnet34": (1000, 21.80),
    "vgg11": (10, 9.23),
}
GROUPS = {
    "dgcnn": 7,
    "mlp": 2,
    "mobilenet_v2": 18,
    "mobilenet_v3_large": 16,  # the first block's residual connection needs the stem whole
    "mobilenet_v3_small": 13,
    "pointnet": 14,
    "pointnet2": 11,
    "resnet34": 16,
    "vgg11": 8,
}


def example(arch, batch=3):
    generator = torch.Generator().manual_seed(0)
    shape = (3, 48) if arch in CLOUDS else (10,) if arch == "mlp" else (3, 32, 32)
    return torch.rand((batch, *shape), generator=generator)


@pytest.fixture(scope="module", params=ARCHS)
def dense(request):
    torch.manual_seed(0)
    return request.param, build(request.param, num_classes=6).eval().requires_grad_(False)


def test_public_builders_are_those_of_the_registry():
    for arch in ARCHS:
        builder = getattr(zoo.models, arch)
        known = inspect.signature(builder).parameters
        assert {"num_classes", "widths"} <= known.keys()
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in known.values())
    assert set(ARCHS) == set(MILLIONS) == set(GROUPS)


@pytest.mark.parametrize("arch", ARCHS)
def test_parameters_are_as_many_as_the_source_says(arch):
    classes, millions = MILLIONS[arch]
    count = sum(parameter.numel() for parameter in build(arch, num_classes=classes).parameters()) / 1e6
    assert abs(count - millions) <= 0.5 * 10 ** -len(str(millions).partition(".")[2])


def test_logits_and_a_batch_of_one(dense):
    arch, model = dense
    x = example(arch)
    y = model(x)
    assert y.shape == (3, 6)
    assert y.isfinite().all()
    torch.testing.assert_close(model(x[1:2]), y[1:2], rtol=1e-4, atol=1e-5)


def test_the_stages_are_the_network(dense):
    arch, model = dense
    x = example(arch)
    stages = stages_of(model)
    assert len({stage.name for stage in stages}) == len(stages) > len(groups_of(model))
    assert torch.equal(run(stages, x), model(x)) or arch.startswith("mobilenet")
    torch.testing.assert_close(run(stages, x), model(x), rtol=1e-5, atol=1e-6)  # a mean in another order
    half = len(stages) // 2
    assert torch.equal(run(stages[half:], run(stages[:half], x)), run(stages, x))


def stages_with(model, module):
    return [i for i, stage in enumerate(stages_of(model)) for part in stage.modules if module in part.modules()]


def test_every_layer_is_in_one_stage_and_a_reader_comes_after_its_writer(dense):
    _, model = dense
    for name, module in model.named_modules():
        if module._parameters:
            assert len(stages_with(model, module)) == 1, name
    first = -1
    for group in groups_of(model):
        (writer,) = stages_with(model, group.writers[0])
        assert writer > first, group.name  # the order in which data flows
        first = writer
        assert all(stages_with(model, reader.module)[0] > writer for reader in group.readers)


def test_groups_and_widths(dense):
    arch, model = dense
    groups = groups_of(model)
    assert len(groups) == GROUPS[arch]
    assert model.widths == {group.name: group.size for group in groups}
    for group in groups:
        assert isinstance(model.get_submodule(group.name), nn.Module)  # the name says where to look
        for writer in group.writers:
            assert all(len(parameter) == group.size for parameter in writer.parameters())


@pytest.mark.parametrize("arch", ARCHS)
def test_any_widths_are_built_directly_and_every_parameter_learns(arch):
    generator = torch.Generator().manual_seed(1)
    dense = build(arch).widths
    widths = {name: int(torch.randint(2, min(n, 40), (), generator=generator)) for name, n in dense.items()}
    torch.manual_seed(0)
    model = build(arch, num_classes=6, widths=widths)
    assert model.widths == widths
    assert type(model) is type(build(arch))
    x = example(arch, batch=6)
    F.cross_entropy(model(x), torch.arange(6)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    model.load_state_dict(build(arch, num_classes=6, widths=widths).state_dict(), strict=True)


@pytest.mark.parametrize("arch", ARCHS)
def test_one_neuron_everywhere_is_a_network(arch):
    widths = dict.fromkeys(build(arch).widths, 1)
    model = build(arch, num_classes=6, widths=widths).eval()
    assert model.widths == widths
    assert model(example(arch)).isfinite().all()


@pytest.mark.parametrize("arch", ARCHS)
def test_bad_widths_say_what_is_possible(arch):
    name, n = next(iter(build(arch).widths.items()))
    for width in (0, -1, n + 1):
        with pytest.raises(ZooError, match=f"{arch}: group {name} can have 1 to {n} neurons, not {width}"):
            build(arch, widths={name: width})
    with pytest.raises(ZooError, match=f"{arch} has no neuron group '{name}x'; did you mean .*{name}"):
        build(arch, widths={name + "x": 1})
    with pytest.raises(ZooError, match=f"no neuron group '{name}x'; did you mean .*{name}"):
        getattr(zoo.models, arch)(widths={name + "x": 1})  # the builder itself does not pass over a misspelt name
    with pytest.raises(ZooError, match=r"at least 1 neuron, not 0|can have 1 to"):
        getattr(zoo.models, arch)(widths={name: 0})


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(ZooError, match="no architecture 'dgcn'; did you mean dgcnn"):
        build("dgcn")
    with pytest.raises(ZooError, match="dgcnn has no option 'droput'; did you mean dropout"):
        build("dgcnn", droput=0.1)
    with pytest.raises(ZooError, match="one of linear, full; got 'none'"):
        build("vgg11", head="none")


@pytest.mark.parametrize("arch", ARCHS)
def test_width_multipliers(arch):
    dense = build(arch).widths
    assert scaled_widths(arch, 1) == dense
    if arch != "dgcnn":  # tests/test_dgcnn.py
        assert scaled_widths(arch, 0.5) == {name: max(1, round(n / 2)) for name, n in dense.items()}
    assert min(scaled_widths(arch, 1e-9).values()) == 1


@pytest.mark.parametrize("w", [0, -0.5, 1.01, float("nan")])
def test_width_multipliers_lie_above_zero_and_at_most_at_one(w):
    with pytest.raises(ZooError, match="above 0 and at most at 1"):
        scaled_widths("resnet34", w)


def test_multiplier_widths_pass_options_on():
    assert scaled_widths("vgg11", 0.5, head="full")["classifier.0"] == 2048
    assert build("vgg11", head="full", widths={"classifier.0": 5}).widths["classifier.0"] == 5


@torch.no_grad()
def randomised(model):
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.normal_(0, 0.3, generator=generator)
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.1, 0.5, generator=generator)
    return model.eval()


@pytest.mark.parametrize("arch", ["resnet34", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_torchvision_weights_load_unchanged(arch):
    theirs = randomised(getattr(torchvision.models, arch)())
    ours = build(arch).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(2, 3, 64, 64)
    y = theirs(x)
    assert y.std() > 0
    assert torch.equal(ours(x), y)


def test_torchvision_weights_load_unchanged_into_the_full_vgg11():
    """Without initialising 133 M numbers twice: torchvision's are drawn roughly, ours take them over."""
    with torch.device("meta"):
        theirs = torchvision.models.vgg11_bn()
        ours = build("vgg11", head="full", num_classes=1000)
    theirs.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_(-0.02, 0.02)
    ours.load_state_dict(randomised(theirs).state_dict(), strict=True, assign=True)
    x = torch.rand(1, 3, 64, 64)
    y = theirs(x)
    assert y.std() > 0
    assert torch.equal(ours.eval()(x), y)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
def test_an_empty_batch_goes_through_and_moves_no_statistics(arch, training):
    """A filter may leave nothing of a batch: logits (0, classes), gradients of 0, batch norms as they were."""
    model = build(arch, num_classes=6).train(training)
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "num_batches" not in name}
    logits = model(example(arch)[:0])
    assert logits.shape == (0, 6)
    logits.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
    with torch.no_grad():
        assert model(example(arch)[:0]).shape == (0, 6)
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())


def test_every_network_takes_the_kind_of_samples_that_it_is_registered_for():
    kinds = {arch: zoo.models.kind_of(arch) for arch in ARCHS}
    assert kinds == {arch: "points" if arch in CLOUDS else None if arch == "mlp" else "images" for arch in ARCHS}
