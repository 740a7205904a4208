"""The entries that come with the package: every number on their cards that can be counted again is.

`pytest -m slow` counts all right answers again, those of mirror/ too, on the data that ZOO_DATA_DIR has.
"""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo import datasets, store
from zoo.cards import wilson_interval
from zoo.evaluate import count, evaluate
from zoo.models import build, scaled_widths
from zoo.utils import sha256_of
from zoo.workflows import DataSpec

SHAPES = ("dgcnn.shapes", "dgcnn-pruned-0.5x.shapes")
WIDTHS = ("0.75", "0.5", "0.25")
MODELNET10 = (
    "dgcnn.modelnet10",
    *(f"dgcnn-{w}x.modelnet10" for w in WIDTHS),
    *(f"dgcnn-pruned-{w}x.modelnet10" for w in WIDTHS),
    "dgcnn-pruned-0.25x-repaired.modelnet10",
    "pointnet2.modelnet10",
)
SHIPPED = (*SHAPES, *MODELNET10)
PRUNED = tuple(name for name in SHIPPED if "-pruned-" in name)
MIRROR = Path(__file__).resolve().parents[2] / "mirror"
EVERY = (*SHIPPED, *sorted(path.name.rpartition("-")[0] for path in MIRROR.glob("*.safetensors")))


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


def test_these_are_shipped_and_the_short_names_mean_the_most_demanding():
    assert zoo.list_models() == sorted(SHIPPED)
    assert zoo.info("dgcnn").name == "dgcnn.modelnet10"
    assert zoo.info("dgcnn-pruned-0.5x").name == "dgcnn-pruned-0.5x.modelnet10"
    assert sum(path.stat().st_size for path in store.package_dir().iterdir()) < 40e6


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_lies_there_as_it_is_written(name):
    assert (store.package_dir() / f"{name}.json").read_text(encoding="utf-8") == zoo.info(name).to_json()


@pytest.mark.parametrize("name", PRUNED)
def test_a_pruned_entry_states_its_parents_terms(name):
    card = zoo.info(name)
    assert card.licences.parent == zoo.info(card.parent).licences.weights


@pytest.mark.parametrize("name", SHIPPED)
def test_counts_and_hash_are_those_of_the_file(name):
    card, model = zoo.info(name), zoo.get(name)
    counts = count(model, tuple(card.sample_shape))
    assert (counts.parameters, counts.macs, counts.macs_paper) == (card.parameters, card.macs, card.macs_paper)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert dict(card.widths) == model.widths
    assert not model.training
    path = zoo.download(name)
    assert (path.stat().st_size, sha256_of(path)) == (card.saved.size, card.saved.sha256)


@pytest.mark.parametrize("name", [pytest.param("dgcnn.shapes", marks=pytest.mark.slow), "dgcnn-pruned-0.5x.shapes"])
def test_accuracy_is_counted_again(name):
    """A quarter of the test split, sample by sample against the card's rate; all of it is `zoo eval`.

    The first n samples hold every class alike, so the quarter's accuracy lies near the whole's: four standard
    deviations of a sample without replacement.
    """
    card = zoo.info(name)
    test = datasets.load("shapes", "test", points=card.sample_shape[1])
    part = torch.utils.data.Subset(test, range(256))
    found = evaluate(zoo.get(name), part)
    p = card.accuracy.correct / card.accuracy.total
    slack = 4 * (p * (1 - p) / 256 * (1 - 256 / 1024)) ** 0.5
    assert card.accuracy.total == len(test) == 1024
    assert abs(found.accuracy - p) < slack
    assert 0.5 < p < 1  # learnt, and hard enough


@pytest.mark.parametrize("name", SHIPPED)
def test_the_interval_is_that_of_the_count_on_the_test_split(name):
    counted = zoo.info(name).accuracy
    assert (counted.low, counted.high) == pytest.approx(wilson_interval(counted.correct, counted.total), abs=1e-6)
    assert (counted.split, counted.total) == ("test", 1024 if name in SHAPES else 908)


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_stored_as_the_card_says_and_in_half_precision_only_where_that_was_asked_for(name):
    """Asked for, some or all may still be float32: where halving would have changed a decision."""
    card = zoo.info(name, mirror=MIRROR)
    tensors = load_file(zoo.download(name, mirror=MIRROR))
    large = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point() and tensor.ndim >= 2}
    stored = {None: {torch.float32}, "float16": {torch.float16}, "mixed": {torch.float16, torch.float32}}
    assert large == stored[card.saved.weights]
    assert {tensor.dtype for tensor in tensors.values() if tensor.ndim < 2} <= {torch.float32, torch.int64}
    asked = "--half" in str(card.recipe["command"]).split()
    assert card.recipe.get("half", False) is asked
    assert asked or card.saved.weights is None


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_all_right_answers_are_counted_again(name):
    """On other processors sums are rounded in another order, which may turn an answer or two."""
    card = zoo.info(name, mirror=MIRROR)
    root, folders = os.environ.get("ZOO_DATA_DIR"), datasets.record(card.dataset).folders
    if folders and not (root and any((Path(root) / folder).is_dir() for folder in folders)):
        pytest.skip(f"ZOO_DATA_DIR names no folder with {' or '.join(folders)}, the data of {name}")
    found = evaluate(zoo.get(name, mirror=MIRROR), DataSpec.of(card).load("test"))
    assert found.total == card.accuracy.total
    assert abs(found.correct - card.accuracy.correct) <= 2


@pytest.mark.parametrize("name", PRUNED)
def test_a_pruned_entry_costs_no_more_than_the_dense_network_of_its_name(name):
    card = zoo.info(name)
    w = float(name.removeprefix("dgcnn-pruned-").partition("x")[0])
    dense = build("dgcnn", num_classes=card.num_classes, widths=scaled_widths("dgcnn", w))
    assert card.macs <= count(dense, tuple(card.sample_shape)).macs
    assert card.parent == f"dgcnn.{card.dataset}"
    assert card.forward
    assert all(record.median_ms is None for record in card.forward if record.device.startswith("cpu"))
    assert store.info(card.parent).macs > card.macs
