"""Networks that expose their prunable neuron groups through one interface.

>>> from zoo.models import dgcnn
>>> dgcnn(num_classes=10).widths["edge1"]
64

The builder of every registered network is an attribute of this package by the network's name, and `ARCHS` holds the
names. Those built on torchvision are imported when they are first used, because torchvision takes seconds to import.
"""

from typing import TYPE_CHECKING

from zoo.models.dgcnn import DGCNN, dgcnn, from_authors
from zoo.models.edgeconv import EdgeConv, edge_max_implementations
from zoo.models.groups import (
    CustomReader,
    NeuronGroup,
    Reader,
    Stage,
    SummedReader,
    groups_of,
    run,
    stage_range,
    stages_of,
    widths_of,
)
from zoo.models.mlp import mlp
from zoo.models.point_ops import knn_implementations
from zoo.models.pointnet import pointnet
from zoo.models.pointnet2 import SetAbstraction, pointnet2
from zoo.models.registry import (
    builder_of,
    create_model,
    kind_of,
    list_architectures,
    recipe_of,
    register_model,
    scaled_widths,
)
from zoo.models.surgery import prune_group

if TYPE_CHECKING:
    from zoo.models.mobilenet import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
    from zoo.models.resnet import resnet34
    from zoo.models.vgg import vgg11

    ARCHS: tuple[str, ...]
else:

    def __getattr__(name: str) -> object:
        if name == "ARCHS":
            return list_architectures()
        if name not in list_architectures():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        builder = builder_of(name)
        globals()[name] = builder  # importing a file of the same name has put the file here
        return builder


build = create_model

__all__ = [
    "ARCHS", "DGCNN", "CustomReader", "EdgeConv", "NeuronGroup", "Reader", "SetAbstraction", "Stage", "SummedReader",
    "build", "create_model", "dgcnn", "edge_max_implementations", "from_authors", "groups_of", "kind_of",
    "knn_implementations", "list_architectures", "mlp", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
    "pointnet", "pointnet2", "prune_group", "recipe_of", "register_model", "resnet34", "run", "scaled_widths",
    "stage_range", "stages_of", "vgg11", "widths_of",
]  # fmt: skip
