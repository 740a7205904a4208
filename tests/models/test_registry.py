"""A network of one's own by its name, and what the registry imports for the built-in ones."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import zoo.models
from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader, create_model, list_architectures, register_model, scaled_widths, widths_of
from zoo.models import registry as registry_module
from zoo.train import recipe_for


class Own(nn.Module):
    """A user's network: one hidden layer that can be pruned."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.hidden, self.out = nn.Linear(5, width), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))

    def neuron_groups(self):
        return [NeuronGroup("hidden", (self.hidden,), (Reader.of(self.out, self.hidden.out_features),))]


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(registry_module, "_REGISTERED", dict(registry_module._REGISTERED))

    @register_model("own", recipe="mlp")
    def own(*, num_classes=4, widths=None):
        return Own((widths or {"hidden": 8})["hidden"], num_classes)

    yield own
    vars(zoo.models).pop("own", None)


def test_a_network_from_outside_is_built_by_its_name(own):
    assert "own" in list_architectures()
    assert "own" in zoo.models.ARCHS
    assert zoo.models.own is own
    assert widths_of(create_model("own")) == {"hidden": 8}
    assert create_model("own", num_classes=3, widths={"hidden": 5})(torch.ones(2, 5)).shape == (2, 3)
    assert scaled_widths("own", 0.5) == {"hidden": 4}
    assert recipe_for("train", "own", "shapes") == recipe_for("train", "mlp", "shapes")
    with pytest.raises(ZooError, match="own: group hidden can have 1 to 8 neurons, not 9"):
        create_model("own", widths={"hidden": 9})
    with pytest.raises(ZooError, match="did you mean own"):
        create_model("owm")


@pytest.mark.parametrize("name", ["dgcnn", "resnet34"])  # a file that is imported, and one that may not be yet
def test_a_name_is_registered_once(name):
    with pytest.raises(ZooError, match=rf"a network '{name}' is registered already, by zoo\.models\."):
        register_model(name)(lambda **options: nn.Identity())


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'dgcnnn'"):
        zoo.models.dgcnnn  # noqa: B018


@pytest.mark.slow
def test_point_cloud_networks_import_no_torchvision():
    line = (
        "import sys, zoo.models as m\n"
        "clouds = [m.create_model(name) for name in ('dgcnn', 'mlp', 'pointnet', 'pointnet2')]\n"
        "assert 'torchvision' not in sys.modules and 'resnet34' in m.ARCHS\n"
        "from zoo.models import dgcnn, vgg11\n"
        "from zoo.models.pointnet import pointnet\n"
        "assert m.pointnet is pointnet and callable(m.dgcnn) and type(m.resnet34()) is type(m.build('resnet34'))\n"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
