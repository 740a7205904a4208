"""A small classifier that has learnt something, for tests of pruning."""

import torch
import torch.nn.functional as F

from zoo.models import mlp


def trained(seed=0, samples=256):
    """A small classifier that has learnt something, and its data."""
    torch.manual_seed(seed)
    x = torch.randn(samples, 8)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
    model = mlp(in_features=8, num_classes=3, widths={"hidden1": 40, "hidden2": 30})
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval(), (x, y)


def entropy(model, data):
    with torch.no_grad():
        return float(F.cross_entropy(model(data[0]), data[1]))
