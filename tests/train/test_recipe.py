"""Recipes as files: the numbers of every network, what the paper says of them, and what a file may not hold."""

import re
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest
import torch

from zoo.datasets import point_transforms as clouds
from zoo.datasets.registry import list_datasets
from zoo.errors import ZooError
from zoo.models import ARCHS
from zoo.train import Recipe, read_recipe, recipe_for
from zoo.train.recipe import KINDS

FILES = Path(__file__).parents[2] / "zoo" / "train" / "recipes"
CLOUD = Recipe(epochs=250, lr=0.05, batch_size=32, label_smoothing=0.1, floor=5e-4)
CLOUD_AGAIN = Recipe(epochs=100, lr=0.01, batch_size=32, weight_decay=5e-5, label_smoothing=0.1)
MOBILE = Recipe(epochs=150, lr=0.05, batch_size=64, weight_decay=4e-5, label_smoothing=0.1, warmup=5)
MOBILE_AGAIN = Recipe(epochs=150, lr=0.01, batch_size=256, weight_decay=5e-5)
# Written down a second time: a number in a file that changes is a decision, and changes here too.
EXPECTED = {
    "train": {
        "dgcnn": Recipe(epochs=250, lr=0.1, batch_size=32, label_smoothing=0.2, floor=1e-3),
        "dgcnn.shapes": Recipe(epochs=60, lr=0.1, batch_size=32, label_smoothing=0.2, floor=1e-3),
        "mlp": Recipe(epochs=30, lr=0.05, batch_size=64),
        "mobilenet_v2": MOBILE,
        "mobilenet_v3_large": MOBILE,
        "mobilenet_v3_small": MOBILE,
        "pointnet": CLOUD,
        "pointnet2": CLOUD,
        "resnet34": Recipe(epochs=90, lr=0.1, batch_size=64, label_smoothing=0.1, warmup=3),
        "resnet34.imagenette": Recipe(epochs=30, lr=0.05, batch_size=64, label_smoothing=0.1, warmup=1),
        "vgg11": Recipe(epochs=160, lr=0.05, batch_size=128, weight_decay=5e-4, warmup=2),
    },
    "finetune": {
        "dgcnn": Recipe(epochs=100, lr=0.01, batch_size=32, weight_decay=5e-5, label_smoothing=0.2),
        "mlp": Recipe(epochs=10, lr=0.01, batch_size=64, weight_decay=5e-5),
        "mobilenet_v2": MOBILE_AGAIN,
        "mobilenet_v3_large": MOBILE_AGAIN,
        "mobilenet_v3_small": MOBILE_AGAIN,
        "pointnet": CLOUD_AGAIN,
        "pointnet2": CLOUD_AGAIN,
        "resnet34": Recipe(epochs=150, lr=0.001, batch_size=256, weight_decay=5e-5),
        "vgg11": Recipe(epochs=100, lr=0.01, batch_size=128, weight_decay=5e-5),
    },
}
OWN = "[train]\nepochs = 3\nlr = 0.1\nbatch_size = 8\n"


def recipe_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.ini"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("kind", "arch"), [*product(KINDS, sorted(ARCHS))])
def test_every_network_has_its_numbers_on_every_data_set(kind: str, arch: str) -> None:
    for dataset in list_datasets():
        recipe = recipe_for(kind, arch, dataset)
        assert recipe == EXPECTED[kind].get(f"{arch}.{dataset}", EXPECTED[kind][arch])
        assert {type(a) for a in vars(recipe).values()} <= {int, float, str}
        assert [*map(type, vars(recipe).values())] == [*map(type, vars(CLOUD).values())]


def test_there_is_one_file_for_every_network_and_none_besides() -> None:
    assert sorted(path.name for path in FILES.iterdir()) == sorted(f"{arch}.ini" for arch in ARCHS)


def test_fine_tuning_on_imagenet_is_the_papers() -> None:
    # Ye et al. 2020, section 3.2.
    paper = {"momentum": 0.9, "weight_decay": 5e-5, "epochs": 150, "batch_size": 256, "floor": 0.0, "warmup": 0}
    rates = {"resnet34": 0.001, "mobilenet_v2": 0.01, "mobilenet_v3_small": 0.01, "mobilenet_v3_large": 0.01}
    for arch, rate in rates.items():
        recipe = asdict(recipe_for("finetune", arch, "imagenet"))
        assert recipe["lr"] == rate
        assert {key: recipe[key] for key in paper} == paper


def test_the_files_say_how_clouds_are_scaled_and_shifted_as_it_is_done() -> None:
    corner = torch.ones(3, 1)
    many = torch.cat([clouds.scale_and_translate(corner, torch.Generator().manual_seed(i)) for i in range(2000)])
    assert 2 / 3 - 0.2 <= many.min() < 2 / 3 - 0.1
    assert 3 / 2 + 0.1 < many.max() <= 3 / 2 + 0.2
    for arch in ("dgcnn", "pointnet", "pointnet2"):
        assert "scaled by 2/3 to 3/2 and shifted by up to 0.2" in (FILES / f"{arch}.ini").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.stem)
def test_every_section_of_a_file_says_where_its_numbers_are_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120
    if path.stem != "mlp":
        assert len(re.findall(r"^\[.+\]\n# ", text, re.MULTILINE)) == len(re.findall(r"^\[", text, re.MULTILINE))


def test_only_the_file_that_is_needed_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], Path.read_text

    def reading(path: Path, *args: object, **more: object) -> str:
        read.append(path.name)
        return real(path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", reading)
    recipe_for("train", "vgg11", "cifar10")
    assert read == ["vgg11.ini"]


@pytest.mark.parametrize("arch", ["lenet", "", "../recipes/dgcnn", "DGCNN"])
def test_a_network_without_a_recipe(arch: str) -> None:
    with pytest.raises(ZooError, match=rf"no recipe to train {re.escape(arch)}: recipes exist for dgcnn, mlp"):
        recipe_for("train", arch, "shapes")


def test_ones_own_file(tmp_path: Path) -> None:
    more = "precision = bfloat16\ndistil = 0.5  # of the loss\n\n[train.modelnet10]\nlr = 0.2\nlabel_smoothing = 0.3\n"
    path = recipe_file(tmp_path, f"# mine\n{OWN}{more}")
    first = Recipe(epochs=3, lr=0.1, batch_size=8, precision="bfloat16", distil=0.5)
    assert read_recipe(path, "train", "shapes") == first
    assert read_recipe(str(path), "train", "modelnet10") == replace(first, lr=0.2, label_smoothing=0.3)
    with pytest.raises(
        ZooError, match=r"own\.ini has no section \[finetune\]; it has \[train\], \[train\.modelnet10\]"
    ):
        read_recipe(path, "finetune", "shapes")
    only_shapes = recipe_file(tmp_path, OWN.replace("[train]", "[finetune.shapes]"))
    assert read_recipe(only_shapes, "finetune", "shapes") == Recipe(epochs=3, lr=0.1, batch_size=8)
    with pytest.raises(ZooError, match="has no section"):
        read_recipe(only_shapes, "finetune", "imagenet")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{OWN}learning_rate = 1\n", r"\[train\]: there is no field 'learning_rate'"),
        (f"{OWN}weightdecay = 1\n", r"there is no field 'weightdecay': did you mean weight_decay\?"),
        (f"{OWN}LR = 1\n", r"\[train\]: there is no field 'LR'"),
        (OWN.replace("= 3", "= 3.5"), r"\[train\]: epochs must be a whole number, got '3\.5'"),
        (OWN.replace("= 0.1", "= fast"), r"\[train\]: lr must be a number, got 'fast'"),
        (OWN.replace("= 0.1", "="), r"\[train\]: lr must be a number, got ''"),
        (OWN.replace("lr = 0.1\n", ""), r"\[train\]: the field lr is missing"),
        (OWN.replace("= 3", "= 0"), r"\[train\]: 0 epochs train nothing"),
        (OWN.replace("= 0.1", "= nan"), r"\[train\]: a learning rate of nan is not possible"),
        (f"{OWN}momentum = 1.5\n", r"\[train\]: momentum is a part, from 0 to below 1; got 1\.5"),
        (f"{OWN}label_smoothing = nan\n", r"label_smoothing is a part"),
        (f"{OWN}weight_decay = -1e-4\n", r"\[train\]: weight_decay is -0\.0001: it must be a number from 0 up"),
        (f"{OWN}floor = inf\n", r"floor is inf"),
        (f"{OWN}warmup = -1\n", r"warmup is -1"),
        (f"{OWN}precision = bfloat\n", r"there is no precision 'bfloat': did you mean bfloat16"),
        (f"{OWN}[finetune]\nepochs = 0\nlr = 1\nbatch_size = 2\n", r"\[finetune\]: 0 epochs"),
        (f"{OWN}[tune]\n", r"there is no section \[tune\]: did you mean finetune\?"),
        (f"{OWN}[DEFAULT]\nmomentum = 0.5\n", r"there is no section \[DEFAULT\]"),
        (f"{OWN}[train.modelnet]\n", r"\[train\.modelnet\]: there is no data set 'modelnet': did you mean modelnet"),
        (f"{OWN}[train.]\n", r"\[train\.\]: there is no data set ''"),
        (f"{OWN}lr = 0.2\n", r"line 5\]: option 'lr' in section 'train' already exists; a recipe has sections"),
        (f"{OWN}{OWN}", r"section 'train' already exists"),
        ("lr = 1\n", r"no section headers.*own\.ini"),
        (f"{OWN}momentum\n", r"parsing errors.*momentum"),
        ("", r"has no section \[train\]; it has none"),
    ],
)
def test_what_a_file_may_not_hold(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ZooError, match=reason) as caught:
        read_recipe(recipe_file(tmp_path, text), "train", "shapes")
    message = str(caught.value)
    assert "own.ini" in message
    assert "\n" not in message


def test_what_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.ini", tmp_path, binary, "a\0b"):
        with pytest.raises(ZooError, match=r"cannot be read"):
            read_recipe(path, "train", "shapes")
