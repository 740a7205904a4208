"""CIFAR-10 (Krizhevsky 2009) with every 32 x 32 image re-encoded as JPEG, in one HDF5 file per split.

`train.h5` and `test.h5` have the data sets `jpeg`, the concatenated bytes of the n JPEG files; `offset` int64 (n + 1,),
where each file begins; and `label` uint8 (n,); and the attribute `classes`. An accuracy on these images is not one on
CIFAR-10: its title is "CIFAR-10 (JPEG)".
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from zoo.datasets.base import LabelledDataset
from zoo.datasets.files import class_numbers, open_hdf5, open_image
from zoo.datasets.image_transforms import apply, to_tensor
from zoo.datasets.loading import DATA_DIR, find_folder
from zoo.datasets.registry import DatasetInfo, check_split, dataset_info, register_dataset
from zoo.errors import ZooError

SIZE = 32
MEAN = (0.4914, 0.4822, 0.4465)  # of the training images of CIFAR-10
STD = (0.2470, 0.2435, 0.2616)


@register_dataset(
    DatasetInfo(
        name="cifar10",
        kind="images",
        num_classes=10,
        classes=(
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
        ),
        sample_shape=(3, 32, 32),
        title="CIFAR-10 (JPEG)",  # numbers on re-encoded images are not those of CIFAR-10
        description="CIFAR-10 (JPEG): 50000 + 10000 images of 32 x 32, re-encoded as JPEG, in train.h5 and test.h5",
        terms="CIFAR-10 (Krizhevsky 2009), published for research; its authors state no licence",
        options=("size", "mean", "std"),
        folders=("cifar10_jpeg",),
        contents=("train.h5", "test.h5"),
        train_samples=50000,
        resize="size",
        difficulty=2,
    )
)
class Cifar10(LabelledDataset):
    """50000 training and 10000 test images, float32 (3, 32, 32), normalised as (x / 255 - mean) / std.

    `root` is the folder with train.h5 and test.h5, or one that contains it as cifar10_jpeg. `augment` pads an image by
    4 pixels, crops it to 32 x 32 at random and flips it at random.

    Raises ZooError for a missing or wrong file, and on access to a sample whose image cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: int = SIZE,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        if size != SIZE:
            raise ZooError(f"cifar10 is stored in {SIZE} x {SIZE}; `size={size}` is not offered")
        root, file = Path(root).expanduser(), f"{check_split(split)}.h5"
        names = dataset_info("cifar10").folders
        folder = find_folder(root, names, lambda folder: (folder / file).is_file())
        if folder is None:
            raise ZooError(
                f"{root / file} is no file: looked for train.h5 and test.h5 there and in {', '.join(names)}; "
                f"give their folder with {DATA_DIR}"
            )
        self.path = folder / file
        with open_hdf5(self.path, f"{self.path} has no jpeg, offset, label and classes in HDF5") as stored:
            self.jpeg, self.offset, label = (stored.array(name) for name in ("jpeg", "offset", "label"))
            classes = stored.strings("classes")
        self.labels = class_numbers(label, len(classes), str(self.path))
        if not self._divided():
            kinds = ", ".join(f"{array.dtype} {array.shape}" for array in (self.jpeg, self.offset))
            raise ZooError(
                f"{self.path} is inconsistent: offset does not divide jpeg into {len(self.labels)} images ({kinds})"
            )
        super().__init__(classes, (3, SIZE, SIZE), augment=augment, seed=seed)
        self._to_tensor = to_tensor(mean, std)
        self._augment = v2.Compose([v2.RandomCrop(SIZE, padding=4), v2.RandomHorizontalFlip(), self._to_tensor])

    def _divided(self) -> bool:
        """Whether `offset` cuts the bytes of `jpeg` into as many pieces as there are labels, none of them empty."""
        jpeg, offset = self.jpeg, self.offset
        if jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offset.dtype.kind == "f" or offset.shape != (len(self) + 1,):
            return False
        return bool(offset[0] == 0 and offset[-1] == len(jpeg) and (offset[1:] > offset[:-1]).all())

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def load_sample(self, index: int) -> Tensor:
        pixels: Tensor = self._to_tensor(self._open(index))
        return pixels.as_subclass(Tensor)

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        return apply(self._augment, self._open(index), generator)

    def _open(self, index: int) -> Image.Image:
        encoded = self.jpeg[self.offset[index] : self.offset[index + 1]].tobytes()
        image = open_image(io.BytesIO(encoded), f"{self.path}, row {index},")
        if image.size != (SIZE, SIZE):
            raise ZooError(f"{self.path}, row {index}, is {image.size[0]} x {image.size[1]}, not {SIZE} x {SIZE}")
        return image
