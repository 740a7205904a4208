"""How each network is trained and fine-tuned: numbers only, one frozen record per network.

DGCNN: the authors' settings (Wang et al. 2019, section 5.1; SGD 0.1 falling to 0.001 over 250 epochs, batch 32,
label smoothing 0.2). Fine-tuning after pruning: the settings of the paper (SGD 0.9, weight decay 5e-5, cosine;
0.001 for ResNet34, 0.01 for the others).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.errors import ZooError, suggest

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with momentum; the rate rises over `warmup` epochs, then falls to `floor`
    along half a cosine, step by step.

    accumulate  in how many parts a batch runs, where a whole one would not fit; batch norm sees a part at a time
    average     above 0, the result is the exponential average of the weights, which keeps this part of itself at a step
    precision   float32, bfloat16 or float16: what products are taken in (autocast); weights stay float32
    distil      the part of the loss that is the divergence from a teacher instead of from the labels (Hinton, Vinyals,
                Dean 2015), at temperature 2
    """

    epochs: int
    lr: float
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    warmup: int = 0
    floor: float = 0.0
    accumulate: int = 1
    average: float = 0.0
    precision: str = "float32"
    distil: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ZooError(f"{self.epochs} epochs train nothing: ask for 1 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ZooError(f"a learning rate of {self.lr} is not possible: give a number above 0")
        if self.batch_size < 2:
            raise ZooError(f"a batch of {self.batch_size} is too small: batch norm needs 2 samples or more")
        if not 1 <= self.accumulate <= self.batch_size // 2:
            raise ZooError(
                f"a batch of {self.batch_size} in {self.accumulate} parts is not possible: batch norm needs parts of 2 "
                f"samples or more, so give 1 to {self.batch_size // 2}"
            )
        if self.precision not in PRECISIONS:
            raise ZooError(f"there is no precision {self.precision!r}: {suggest(self.precision, PRECISIONS)}")
        for what in ("average", "distil"):
            if not 0 <= (value := getattr(self, what)) <= 1 or (what == "average" and value == 1):
                raise ZooError(f"{what} is a part, from 0 up to 1; got {value}")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0, 1, ... of a run whose epochs have `steps` steps each."""
        warm = min(self.warmup, self.epochs - 1) * steps
        if step < warm:
            return self.lr * (step + 1) / warm
        floor = min(self.floor, self.lr)
        position = (step - warm) / (self.epochs * steps - warm)
        return floor + (self.lr - floor) * (1 + math.cos(math.pi * position)) / 2


_CLOUD = Recipe(epochs=200, lr=0.05, batch_size=32, label_smoothing=0.1, floor=5e-4)
_MOBILE = Recipe(epochs=150, lr=0.05, batch_size=64, weight_decay=4e-5, label_smoothing=0.1, warmup=5)
_MOBILE_AGAIN = Recipe(epochs=150, lr=0.01, batch_size=256, weight_decay=5e-5)

TRAIN: dict[str, Recipe] = {
    "dgcnn": Recipe(epochs=250, lr=0.1, batch_size=32, label_smoothing=0.2, floor=1e-3),
    "dgcnn.shapes": Recipe(epochs=60, lr=0.1, batch_size=32, label_smoothing=0.2, floor=1e-3),
    "mlp": Recipe(epochs=30, lr=0.05, batch_size=64),
    "mobilenet_v2": _MOBILE,
    "mobilenet_v3_large": _MOBILE,
    "mobilenet_v3_small": _MOBILE,
    "pointnet": _CLOUD,
    "pointnet2": _CLOUD,
    "resnet34": Recipe(epochs=90, lr=0.1, batch_size=64, label_smoothing=0.1, warmup=3),
    "resnet34.imagenette": Recipe(epochs=30, lr=0.05, batch_size=64, label_smoothing=0.1, warmup=1),
    "vgg11": Recipe(epochs=160, lr=0.05, batch_size=128, weight_decay=5e-4, warmup=2),
}

FINETUNE: dict[str, Recipe] = {
    "dgcnn": Recipe(epochs=100, lr=0.01, batch_size=32, weight_decay=5e-5, label_smoothing=0.2),
    "mlp": Recipe(epochs=10, lr=0.01, batch_size=64, weight_decay=5e-5),
    "mobilenet_v2": _MOBILE_AGAIN,
    "mobilenet_v3_large": _MOBILE_AGAIN,
    "mobilenet_v3_small": _MOBILE_AGAIN,
    "pointnet": Recipe(epochs=100, lr=0.01, batch_size=32, weight_decay=5e-5, label_smoothing=0.1),
    "pointnet2": Recipe(epochs=100, lr=0.01, batch_size=32, weight_decay=5e-5, label_smoothing=0.1),
    "resnet34": Recipe(epochs=150, lr=0.001, batch_size=256, weight_decay=5e-5),
    "vgg11": Recipe(epochs=100, lr=0.01, batch_size=128, weight_decay=5e-5),
}

RECIPES = {"train": TRAIN, "finetune": FINETUNE}


def recipe_for(kind: str, arch: str, dataset: str) -> Recipe:
    """The recipe of kind "train" or "finetune" for a network, the one made for the data set if there is one."""
    recipes = RECIPES[kind]
    found = recipes.get(f"{arch}.{dataset}") or recipes.get(arch)
    if found is None:
        raise ZooError(f"there is no recipe to {kind} {arch}: recipes exist for {', '.join(sorted(recipes))}")
    return found
