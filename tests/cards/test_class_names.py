"""Names of classes: on a card, from the data set where the card has none, on the page, and on the network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from store_entries import plain

import zoo
from zoo import models
from zoo.cards import Card
from zoo.datasets import dataset_info, list_datasets
from zoo.datasets.modelnet import ModelNet10, ModelNet40
from zoo.datasets.shapes import Shapes
from zoo.display import card_page
from zoo.errors import ZooError
from zoo.workflows import save_entry


def test_a_data_set_knows_the_names_of_its_classes() -> None:
    for name in list_datasets():
        info = dataset_info(name)
        assert len(info.classes) in (0, info.num_classes)
    assert list(dataset_info("shapes").classes) == Shapes("test").classes
    assert dataset_info("modelnet10").classes == ModelNet10.CLASSES
    assert ModelNet10.CLASSES[8:] == ("table", "toilet")
    assert set(ModelNet10.CLASSES) < set(ModelNet40.CLASSES)
    assert dataset_info("cifar10").classes[-1] == "truck"
    assert dataset_info("imagenette").classes[0] == "tench"


def test_the_shipped_cards_state_no_names_and_have_those_of_their_data_sets() -> None:
    card = zoo.info("dgcnn.modelnet10")
    assert card.classes is None
    assert card.class_names == dataset_info("modelnet10").classes
    assert replace(card, num_classes=9).class_names is None  # another number of classes has other names
    assert replace(card, dataset="theirs", name="dgcnn", file=None).class_names is None


def test_names_on_a_card_are_read_back_and_come_first() -> None:
    card = replace(zoo.info("dgcnn.modelnet10"), num_classes=2, classes=("Stuhl", "Tisch"))
    again = Card.from_json(card.to_json())
    assert again == card
    assert again.class_names == ("Stuhl", "Tisch")
    for classes in (["Stuhl"], ["Stuhl", "Stuhl"], ["Stuhl", ""]):
        with pytest.raises(ZooError, match="classes holds"):
            Card.from_json(json.dumps({**json.loads(card.to_json()), "classes": classes}))


def test_the_page_shows_the_first_names() -> None:
    card = zoo.info("dgcnn.modelnet10")
    text = "classes: bathtub, bed, chair, desk, dresser, monitor, night_stand, sofa, table, toilet\n"
    assert text in card_page(card, {})
    many = replace(card, num_classes=40, classes=tuple(f"c{i}" for i in range(40)))
    assert "c10, c11, ... (28 more)\n" in card_page(many, {})
    assert "classes:" not in card_page(replace(card, num_classes=9), {})


def test_a_network_has_the_names_of_its_classes(empty_home: Path) -> None:
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    card = save_entry(model, plain("net.shapes", classes=("a", "b", "c")))
    assert zoo.get("net").classes == ("a", "b", "c")
    with torch.random.fork_rng(devices=[]):
        assert zoo.get("net", num_classes=4).classes is None
    alone = empty_home / "alone.safetensors"
    alone.write_bytes((empty_home / "own" / card.saved.name).read_bytes())
    assert zoo.get(alone).classes is None


def test_imagenet_has_the_names_of_torchvision(empty_home: Path) -> None:
    model = models.build("mlp", num_classes=1000, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    save_entry(model, plain("net.imagenet", dataset="imagenet", num_classes=1000))
    classes = zoo.get("net").classes
    assert len(classes) == 1000
    assert (classes[0], classes[701], classes[999]) == ("tench", "parachute", "toilet tissue")
