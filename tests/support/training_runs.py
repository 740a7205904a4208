"""Training runs that several processes and one have to do alike, in float64 and without dropout."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from zoo import distributed, models
from zoo.evaluate import evaluate
from zoo.train import Recipe, train

RECIPE = Recipe(epochs=3, lr=0.1, batch_size=8, weight_decay=1e-3, label_smoothing=0.1, warmup=1, floor=0.01)
CLASSES = 4


class Odd(nn.Module):
    """Batch norm without a momentum, without weights, and as usual; and a layer that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(5, 9), nn.Linear(9, 6), nn.Linear(6, CLASSES)
        self.averaged, self.usual = nn.BatchNorm1d(9, momentum=None), nn.BatchNorm1d(6)
        self.plain, self.unused = nn.BatchNorm1d(5, affine=False), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.averaged(self.one(self.plain(x))))
        return self.out(torch.relu(self.usual(self.two(x))))


def mlp() -> nn.Module:
    return models.build("mlp", in_features=5, num_classes=CLASSES, widths={"hidden1": 7, "hidden2": 6})


def resnet() -> nn.Module:
    dense = models.build("resnet34", num_classes=CLASSES).widths
    return models.build("resnet34", num_classes=CLASSES, widths={name: 3 + i % 3 for i, name in enumerate(dense)})


def vgg() -> nn.Module:
    dense = models.build("vgg11", num_classes=CLASSES).widths
    return models.build("vgg11", num_classes=CLASSES, widths={name: 3 + i % 3 for i, name in enumerate(dense)})


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES))


def dgcnn() -> nn.Module:
    widths = {"edge1": 6, "edge2": 6, "edge3": 7, "edge4": 8, "conv5": 12, "linear1": 10, "linear2": 8}
    model = models.build("dgcnn", num_classes=CLASSES, widths=widths, k=4, dropout=0.0)
    with torch.no_grad():
        model.edge2.bn.weight[::2].neg_()  # EdgeConv treats those channels differently
    return model


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double()


def samples(size: int, *shape: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(size)
    x = 3 + torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    return TensorDataset(x, (x.flatten(1).sum(1) * 10).long() % CLASSES)


# name -> network, samples, recipe; batches of 8 and a last one of 3, 5 or 2
RUNS: dict[str, tuple[Callable[[], nn.Module], TensorDataset, Recipe]] = {
    "mlp": (mlp, samples(27, 5), replace(RECIPE, distil=0.4)),
    "odd": (Odd, samples(27, 5), replace(RECIPE, average=0.8)),
    "parts": (Odd, samples(29, 5), replace(RECIPE, accumulate=3, average=0.8, distil=0.4)),
    "pairs": (Odd, samples(9, 5), replace(RECIPE, batch_size=2)),  # fewer samples than three processes
    "vgg": (vgg, samples(11, 3, 32, 32), replace(RECIPE, average=0.5)),
    # 36 layers of untrained batch norm magnify rounding: one epoch, and samples that leave it below 1e-10.
    "resnet": (resnet, samples(13, 3, 32, 32), replace(RECIPE, average=0.5, lr=0.01, epochs=1)),
    "dgcnn": (dgcnn, samples(21, 3, 12), replace(RECIPE, accumulate=2)),
    "dgcnn pairs": (dgcnn, samples(4, 3, 12), replace(RECIPE, batch_size=2, lr=0.01)),
}


class Read(Dataset[Any]):
    """A data set that counts what is read from it, and does something at a read."""

    def __init__(self, inner: TensorDataset, at: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.inner, self.read, self.at = inner, 0, at or {}

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        self.at.get(self.read, int)()
        return self.inner[index]


def result(name: str, folder: Path) -> dict[str, Any]:
    """Everything a run leaves: weights, its log without the times, how much this process read, and evaluations."""
    build, data, recipe = RUNS[name]
    counted, log = Read(data), folder / f"{name}.jsonl"
    teacher = seeded(build, 1) if recipe.distil else None
    # Weights that differ before: those of the first process count.
    model = train(seeded(build, distributed.rank()), counted, recipe, seed=3, teacher=teacher, log=log)
    distributed.all_gather_object(None)  # the first writes it
    history = [{**json.loads(line), "seconds": 0} for line in log.read_text().splitlines()]
    evaluations = [evaluate(model, (data.tensors[0][:m], data.tensors[1][:m]), batch_size=4) for m in (1, 2, len(data))]
    return {
        "weights": model.state_dict(),
        "history": history,
        "read": counted.read,
        "counts": [(e.correct, e.total, e.low, e.high) for e in evaluations],
        "entropy": [e.cross_entropy for e in evaluations],
        "hits": [e.hits for e in evaluations],
        "predictions": [e.predictions for e in evaluations],
    }
