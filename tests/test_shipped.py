"""The entries that come with the package: every number on their cards that can be counted again is."""

from pathlib import Path

import pytest
import torch

import zoo
from zoo import datasets, store
from zoo.accuracy import wilson
from zoo.evaluate import evaluate
from zoo.files import sha256_of
from zoo.measure import count
from zoo.models import build, multiplier_widths

SHIPPED = ("dgcnn.shapes", "dgcnn-pruned-0.5x.shapes")


@pytest.fixture(autouse=True)
def _empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


def test_these_are_shipped_and_the_short_names_mean_them():
    assert zoo.list_models() == sorted(SHIPPED)
    assert zoo.info("dgcnn").name == "dgcnn.shapes"
    assert zoo.info("dgcnn-pruned-0.5x").name == "dgcnn-pruned-0.5x.shapes"
    assert sum(Path(zoo.download(name)).stat().st_size for name in SHIPPED) < 40e6


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_lies_there_as_it_is_written(name):
    assert (store.shipped() / f"{name}.json").read_text(encoding="utf-8") == zoo.info(name).to_json()


def test_the_pruned_entry_states_its_parents_terms():
    card = zoo.info("dgcnn-pruned-0.5x")
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


@pytest.mark.parametrize("name", SHIPPED)
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
    assert (card.accuracy.low, card.accuracy.high) == pytest.approx(wilson(card.accuracy.correct, 1024), abs=1e-6)
    assert 0.5 < p < 1  # learnt, and hard enough


def test_the_pruned_entry_costs_no_more_than_the_dense_network_of_half_width():
    card = zoo.info("dgcnn-pruned-0.5x")
    half = build("dgcnn", num_classes=card.num_classes, widths=multiplier_widths("dgcnn", 0.5))
    assert card.macs <= count(half, tuple(card.sample_shape)).macs
    assert card.parent == "dgcnn.shapes"
    assert card.forward
    assert all(record.median_ms is None for record in card.forward if record.device.startswith("cpu"))
    assert store.info(card.parent).macs > card.macs
