"""Names: what separates stem and data set, what is refused, and which entry a short name means."""

import pytest

from zoo.cards import parse_name, resolve_name
from zoo.cards.names import Name
from zoo.datasets import datasets_by_difficulty
from zoo.errors import ZooError


@pytest.mark.parametrize(
    ("text", "stem", "dataset"),
    [
        ("dgcnn", "dgcnn", None),
        ("dgcnn-pruned-0.5x", "dgcnn-pruned-0.5x", None),
        ("dgcnn-pruned-0.5x.shapes", "dgcnn-pruned-0.5x", "shapes"),
        ("dgcnn-0.5x.modelnet10", "dgcnn-0.5x", "modelnet10"),
        ("mobilenet_v2.imagenet", "mobilenet_v2", "imagenet"),
        ("my-net-v1.2", "my-net-v1.2", None),
        ("my-net-v1.2.cifar10", "my-net-v1.2", "cifar10"),
    ],
)
def test_the_dot_of_a_width_separates_nothing(text: str, stem: str, dataset: str | None) -> None:
    name = parse_name(text)
    assert name == Name(stem, dataset)
    assert str(name) == text


@pytest.mark.parametrize(
    "text", ["", "DGCNN", "../x", "a/b", "a\\b", "a..b", ".hidden", "-rf", "a b", "a\n", "é", "index", "x" * 121]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ZooError, match="model name"):
        parse_name(text)


def test_a_short_name_means_the_most_demanding_data_set() -> None:
    family = [f"dgcnn-0.5x.{dataset}" for dataset in datasets_by_difficulty()]
    assert family[0] == "dgcnn-0.5x.imagenet"
    while family:
        assert resolve_name("dgcnn-0.5x", reversed(family)) == family[0]
        family.pop(0)


def test_a_preferred_entry_comes_before_one_on_a_more_difficult_data_set() -> None:
    known = ["net.imagenet", "net.apples", "net.shapes"]
    assert resolve_name("net", known, preferred=["net.apples"]) == "net.apples"
    assert resolve_name("net", known, preferred=["net.apples", "net.shapes"]) == "net.shapes"
    assert resolve_name("net", known, preferred=["other.shapes"]) == "net.imagenet"


def test_a_data_set_of_the_users_own_comes_after_the_known_ones() -> None:
    assert resolve_name("net", ["net.apples", "net.shapes"]) == "net.shapes"
    assert resolve_name("net", ["net.pears", "net.apples"]) == "net.apples"


def test_an_exact_name_wins_over_its_family() -> None:
    known = ["net", "net.imagenet", "net.shapes"]
    assert resolve_name("net", known) == "net"
    assert resolve_name("net.shapes", known) == "net.shapes"


@pytest.mark.parametrize(
    ("text", "near"),
    [("dgcn", "did you mean dgcnn?"), ("DGCNN", "did you mean dgcnn?"), ("dgcnn.shape", "did you mean dgcnn.shapes?")],
)
def test_an_unknown_name_suggests_near_ones(text: str, near: str) -> None:
    with pytest.raises(ZooError, match="no model") as caught:
        resolve_name(text, ["dgcnn.shapes", "vgg11.cifar10"])
    assert near in str(caught.value)


def test_an_unknown_name_in_an_empty_zoo_says_so() -> None:
    with pytest.raises(ZooError, match="the zoo is empty"):
        resolve_name("dgcnn", [])
