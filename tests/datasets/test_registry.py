"""A data set of one's own by its name, and what the records of the built-in ones say."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pictures import pictures

import zoo.datasets
from zoo.datasets import (
    DatasetInfo,
    LabelledDataset,
    dataset_info,
    dataset_title,
    datasets_by_difficulty,
    list_datasets,
    load,
    record,
    register_dataset,
)  # fmt: skip
from zoo.datasets import registry as registry_module
from zoo.datasets.registry import loader_of
from zoo.errors import ZooError


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of a user's: four-channel images whose samples are their number."""
    monkeypatch.setattr(registry_module, "_REGISTERED", dict(registry_module._REGISTERED))

    @register_dataset(
        DatasetInfo(
            name="own", kind="images", num_classes=2, sample_shape=(4, 8, 8), description="counted", terms="ours",
            options=("size", "channels"), pruning_samples=10,
        )
    )
    class Own(LabelledDataset):
        def __init__(self, root: Path, split: str, *, size: int = 8, channels: int = 4, seed: int = 0) -> None:
            super().__init__(["even", "odd"], (channels, size, size), seed=seed)
            self.root = root

        def __len__(self) -> int:
            return 6

        def label(self, index: int) -> int:
            return index % 2

        def load_sample(self, index: int) -> torch.Tensor:
            return torch.full(self.sample_shape, float(index))

        def augmented(self, index: int, generator: torch.Generator) -> torch.Tensor:
            return self.load_sample(index)


def test_a_data_set_from_outside_is_loaded_by_its_name(own: None, tmp_path: Path) -> None:
    assert "own" in list_datasets()
    assert datasets_by_difficulty()[-1] == "own"
    assert (dataset_title("own"), dataset_title("cifar10"), dataset_title("x")) == ("own", "CIFAR-10 (JPEG)", "x")
    assert dataset_info("own").pruning_samples == 10
    data = load("own", "train", data_dir=tmp_path, size=None, channels=3, seed=5)
    assert (data.sample_shape, data.seed, data.root) == ((3, 8, 8), 5, tmp_path)  # type: ignore[attr-defined]
    assert data[3][1] == 1
    with pytest.raises(ZooError, match="so `points` does not apply; it takes `channels`, `size`"):
        load("own", "train", points=5)
    with pytest.raises(ZooError, match="own cannot be downloaded here"):
        load("own", "train", download=True)


def test_a_name_is_registered_once(own: None) -> None:
    info = record("imagenet")  # its file may not be imported yet
    with pytest.raises(ZooError, match=r"'imagenet' is registered already, by zoo\.datasets\.imagenet"):
        register_dataset(info)(lambda split: None)


def test_listing_imports_neither_torch_nor_h5py() -> None:
    heavy = "print({'torch', 'h5py', 'numpy'} & {*sys.modules})"
    line = f"import sys, zoo.datasets as d; d.datasets_by_difficulty(); {heavy}"
    answer = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_the_classes_are_names_of_the_package_as_in_torchvision(tmp_path: Path) -> None:
    from zoo.datasets import Cifar10, ImageNet, Imagenette, ModelNet10, ModelNet40, Shapes

    names = {"cifar10": Cifar10, "imagenet": ImageNet, "imagenette": Imagenette, "modelnet10": ModelNet10}
    for name, dataset in {**names, "modelnet40": ModelNet40, "shapes": Shapes}.items():
        assert loader_of(name) is dataset
        assert issubclass(dataset, torch.utils.data.Dataset)
        assert dataset.__name__ in zoo.datasets.__all__
        if name != "shapes":
            for arguments in ((str(tmp_path),), (tmp_path, "test")):
                with pytest.raises(ZooError, match=f"{tmp_path}.*looked for"):
                    dataset(*arguments)
    batch = next(iter(torch.utils.data.DataLoader(Shapes(split="test", points=32, test_size=40), batch_size=20)))
    assert batch[0].shape == (20, 3, 32)
    assert batch[1].tolist() == list(range(20))
    assert Shapes(train_size=40).split == "train"
    assert len(ImageNet(pictures(tmp_path / "p"), size=16)) == 21
    assert [y for _, y in ImageNet(tmp_path / "p", "val", size=16)] == [0] * 5 + [1] * 5 + [2] * 5


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "imagenette", "modelnet10", "modelnet40", "shapes"])
def test_a_loader_takes_the_declared_options_with_the_declared_defaults(name: str) -> None:
    info, parameters = dataset_info(name), inspect.signature(loader_of(name)).parameters
    assert set(info.options) <= parameters.keys()
    side = parameters["points" if info.kind == "points" else "size"]
    assert side.default == info.sample_shape[-1]
    assert registry_module._builtin()[name][0] == info  # read from the source, and registered by the decorator


def test_the_order_in_which_a_bare_name_is_resolved() -> None:
    builtin = [name for name in datasets_by_difficulty() if name in registry_module._builtin()]
    assert builtin == ["imagenet", "modelnet40", "modelnet10", "imagenette", "cifar10", "shapes", "folder"]
