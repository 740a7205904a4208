"""Networks that expose their prunable neuron groups through one interface.

>>> from zoo.models import dgcnn
>>> dgcnn(num_classes=10).widths["edge1"]
64
"""

from zoo.models.dgcnn import DGCNN, dgcnn, from_authors
from zoo.models.edgeconv import EdgeConv
from zoo.models.groups import Mixing, NeuronGroup, Reader, Stage, groups_of, run, stages_of, widths_of
from zoo.models.mlp import mlp
from zoo.models.mobilenet import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from zoo.models.pointnet import pointnet
from zoo.models.pointnet2 import SetAbstraction, pointnet2
from zoo.models.registry import ARCHS, build, multiplier_widths
from zoo.models.resnet import resnet34
from zoo.models.surgery import keep
from zoo.models.vgg import vgg11

__all__ = [
    "ARCHS",
    "DGCNN",
    "EdgeConv",
    "Mixing",
    "NeuronGroup",
    "Reader",
    "SetAbstraction",
    "Stage",
    "build",
    "dgcnn",
    "from_authors",
    "groups_of",
    "keep",
    "mlp",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "multiplier_widths",
    "pointnet",
    "pointnet2",
    "resnet34",
    "run",
    "stages_of",
    "vgg11",
    "widths_of",
]
