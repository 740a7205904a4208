"""PointNet and PointNet++ against compact re-implementations under the public codes' own names."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import ZooError
from zoo.models import pointnet, pointnet2
from zoo.models.point_ops import farthest_points
from zoo.models.pointnet import Transform
from zoo.models.surgery import set_widths


def randomise(model):
    """Batch norms as after training: gains of both signs, moved statistics."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.weight.normal_(0.5, 1)
                layer.bias.normal_(0, 0.5)
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.2, 1)
    return model.double().eval()


class STN(nn.Module):
    """The public codes' STN3d and STNkd."""

    def __init__(self, k):
        super().__init__()
        self.k = k
        sizes = [k, 64, 128, 1024, 512, 256, k * k]
        for i in (1, 2, 3):
            setattr(self, f"conv{i}", nn.Conv1d(sizes[i - 1], sizes[i], 1))
            setattr(self, f"fc{i}", nn.Linear(sizes[i + 2], sizes[i + 3]))
        for i in range(1, 6):
            setattr(self, f"bn{i}", nn.BatchNorm1d(sizes[i]))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(F.relu(self.bn3(self.conv3(x))), 2, keepdim=True)[0].view(-1, 1024)
        x = F.relu(self.bn4(self.fc1(x)))
        x = self.fc3(F.relu(self.bn5(self.fc2(x))))
        return (x + torch.eye(self.k, dtype=x.dtype).flatten()).view(-1, self.k, self.k)


class Feat(nn.Module):
    def __init__(self):
        super().__init__()
        self.stn, self.fstn = STN(3), STN(64)
        self.conv1, self.bn1 = nn.Conv1d(3, 64, 1), nn.BatchNorm1d(64)
        self.conv2, self.bn2 = nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128)
        self.conv3, self.bn3 = nn.Conv1d(128, 1024, 1), nn.BatchNorm1d(1024)

    def forward(self, x):
        x = torch.bmm(x.transpose(2, 1), self.stn(x)).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = torch.bmm(x.transpose(2, 1), self.fstn(x)).transpose(2, 1)
        x = F.relu(self.bn2(self.conv2(x)))
        return torch.max(self.bn3(self.conv3(x)), 2)[0]


class PointNetCls(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.feat = Feat()
        self.fc1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, k)

    def forward(self, x):
        x = F.relu(self.bn1(self.fc1(self.feat(x))))
        return F.log_softmax(self.fc3(F.relu(self.bn2(self.fc2(x)))), dim=1)


class Abstraction(nn.Module):
    """PointNetSetAbstraction of the public code, one centre after the other; the farthest points are handed in."""

    def __init__(self, points, radius, k, sizes):
        super().__init__()
        self.points, self.radius, self.k = points, radius, k
        self.mlp_convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(sizes))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(b) for b in sizes[1:])

    def map(self, x):
        """(B, 3 + C, k) -> (B, O)"""
        x = x.unsqueeze(3)
        for conv, bn in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(bn(conv(x)))
        return x.flatten(2).max(2).values

    def forward(self, xyz, features):
        if self.points is None:
            return None, self.map(torch.cat([xyz, features], 1)).unsqueeze(2)
        chosen = farthest_points(xyz, min(self.points, xyz.shape[2]))
        centres = torch.stack([cloud[:, rows] for cloud, rows in zip(xyz, chosen, strict=True)])
        answers = []
        for m in range(centres.shape[2]):
            balls = []
            for b in range(len(xyz)):
                gap = (xyz[b] - centres[b, :, m : m + 1]).norm(dim=0)
                near = (gap <= self.radius).nonzero().flatten()[: self.k]
                near = torch.cat([near, near[:1].expand(self.k - len(near))])
                place = xyz[b][:, near] - centres[b, :, m : m + 1]
                balls.append(place if features is None else torch.cat([place, features[b][:, near]], 0))
            answers.append(self.map(torch.stack(balls)))
        return centres, torch.stack(answers, 2)


class PointNet2SSG(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.sa1 = Abstraction(512, 0.2, 32, [3, 64, 64, 128])
        self.sa2 = Abstraction(128, 0.4, 64, [128 + 3, 128, 128, 256])
        self.sa3 = Abstraction(None, None, None, [256 + 3, 256, 512, 1024])
        self.fc1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, classes)

    def forward(self, xyz):
        x = self.sa3(*self.sa2(*self.sa1(xyz, None)))[1].flatten(1)
        x = F.relu(self.bn1(self.fc1(x)))
        return F.log_softmax(self.fc3(F.relu(self.bn2(self.fc2(x)))), -1)


def sphere(batch, n):
    """Points in the unit ball, for which the radii are meant."""
    x = torch.randn(batch, 3, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True) * torch.linspace(0.5, 1, n, dtype=torch.float64)


@pytest.mark.parametrize(
    ("public", "builder", "n"),
    [(PointNetCls, pointnet, 70), (PointNet2SSG, pointnet2, 160), (PointNet2SSG, pointnet2, 600)],
)
def test_weights_of_the_public_codes_give_their_answer(public, builder, n):
    torch.manual_seed(0)
    theirs, ours = randomise(public(40)), builder().double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = sphere(2, n)
    y = theirs(x)
    assert y.std() > 0.01
    torch.testing.assert_close(F.log_softmax(ours(x), 1), y, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_pointnet_is_a_function_of_a_set_of_any_size():
    torch.manual_seed(0)
    model = randomise(pointnet(num_classes=5))
    x = sphere(3, 200)
    y = model(x)
    torch.testing.assert_close(model(x[:, :, torch.randperm(200)]), y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(torch.cat([x, x[:, :, :50]], 2)), y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(x[:1]), y[:1], rtol=1e-9, atol=1e-9)
    assert model(x[:, :, :1]).shape == (3, 5)


def test_a_transform_that_has_learnt_nothing_is_the_identity():
    transform = Transform(4, {"conv1": 5, "conv2": 6, "conv3": 7, "fc1": 8, "fc2": 9}).eval()
    nn.init.zeros_(transform.fc3.weight)
    nn.init.zeros_(transform.fc3.bias)
    assert torch.equal(transform(torch.randn(2, 4, 11)), torch.eye(4).expand(2, 4, 4))


def test_the_channels_that_the_feature_transform_multiplies_are_no_group():
    model = pointnet()
    writers = {writer for group in model.neuron_groups() for writer in group.writers}
    linear = {m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d))}
    outputs = {model.feat.stn.fc3, model.feat.fstn.fc3, model.fc3}
    assert linear - writers == {model.feat.conv1} | outputs


@pytest.mark.parametrize("n", [1, 20, 256, 511, 513])
@torch.no_grad()
def test_pointnet2_takes_any_number_of_points(n):
    torch.manual_seed(0)
    model = randomise(pointnet2(num_classes=5, widths={"sa3.mlp_convs.2": 64}))
    x = sphere(2, n)
    y = model(x)
    assert y.shape == (2, 5)
    assert y.isfinite().all()
    torch.testing.assert_close(model(x[:1]), y[:1], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_pointnet2_layers_have_the_sizes_of_the_paper():
    model = pointnet2().eval()
    places, features = model.sa1(sphere(2, 700).float(), None)
    assert (places.shape, features.shape) == ((2, 3, 512), (2, 128, 512))
    places, features = model.sa2(places, features)
    assert (places.shape, features.shape) == ((2, 3, 128), (2, 256, 128))
    places, features = model.sa3(places, features)
    assert (places.shape, features.shape) == ((2, 3, 1), (2, 1024, 1))


@torch.no_grad()
def test_pointnet2_prunes_without_touching_a_neighbourhood():
    """Neurons whose outgoing weights are zero change no logit when they go: neighbours are searched in space."""
    torch.manual_seed(0)
    model = randomise(pointnet2(num_classes=5))
    cut = copy.deepcopy(model)
    x = sphere(2, 90)
    model.sa2.mlp_convs[0].weight[:, 3 + 10 :] = 0
    cut.sa2.mlp_convs[0].weight[:, 3 + 10 :] = 0
    set_widths(cut, {"sa1.mlp_convs.2": 10})
    assert cut.sa2.mlp_convs[0].weight.shape == (128, 13, 1, 1)
    torch.testing.assert_close(cut(x), model(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("builder", [pointnet, pointnet2])
@pytest.mark.parametrize("shape", [(2, 30, 3), (3, 30), (2, 3, 0)])
def test_wrong_shapes_are_named(builder, shape):
    with pytest.raises(ZooError, match=r"clouds as \(B, 3, N\) with at least one point; got \("):
        builder().eval()(torch.zeros(shape))
