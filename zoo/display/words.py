"""A card in sentences: what the entry is, and what it cost and gained beside its parent.

Only what the card states: a number that was not measured is not mentioned.
"""

from __future__ import annotations

from zoo.cards import Accuracy, Card, Forward
from zoo.datasets import dataset_title
from zoo.display.format import interval, percent, quantity

# How a network is written where its word is not its name; with the article that its sound asks for.
_ARCHS = {
    "dgcnn": "a DGCNN",
    "mlp": "an MLP",
    "mobilenet_v2": "a MobileNetV2",
    "mobilenet_v3_large": "a MobileNetV3-Large",
    "mobilenet_v3_small": "a MobileNetV3-Small",
    "pointnet": "a PointNet",
    "pointnet2": "a PointNet++",
    "resnet34": "a ResNet34",
    "vgg11": "a VGG-11",
}
_MADE = {"zoo reprune": "pruned from", "zoo finetune": "trained further from"}


def what_it_is(card: Card) -> str:
    """One sentence: network, task, data, origin."""
    arch = _ARCHS.get(card.arch) or f"{'an' if card.arch[0] in 'aeiou' else 'a'} {card.arch}"
    classes = f"{card.num_classes} class{'' if card.num_classes == 1 else 'es'} of {dataset_title(card.dataset)}"
    text = f"{card.name} is {arch} for {card.task} ({classes}; one input is {' x '.join(map(str, card.sample_shape))})"
    if card.parent is None:
        return f"{text}."
    command = " ".join(str(card.recipe["command"]).split()[:2])
    made, start = f"{text}, {_MADE.get(command, 'made from')}", card.recipe.get("start")
    if start not in (None, card.parent):  # a pruned network that was trained on, with what it was pruned from
        return f"{made} {start} and compared with {card.parent}."
    return f"{made} {card.parent}."


def what_it_cost(card: Card, parent: Card | None = None) -> str:
    """One sentence of what was measured: beside its parent's numbers if it has a parent, else on its own.

    ``parent`` is the parent's card where it is known; the counts of MACs are compared only for inputs of one shape.
    """
    if card.parent is None:
        return _alone(card)
    said = []
    if card.accuracy is not None:
        said.append(_accuracy(card.accuracy, card.parent_accuracy))
    if parent is not None:
        if card.macs and parent.macs and card.sample_shape == parent.sample_shape:
            said.append(f"{_part(card.macs, parent.macs)} of its MACs")
        if card.parameters and parent.parameters:
            said.append(f"{_part(card.parameters, parent.parameters)} of its parameters")
    said += [_speed(record) for record in card.forward if record.ratio is not None]
    return f"Beside its parent: {', '.join(said)}." if said else ""


def _alone(card: Card) -> str:
    said = []
    if card.accuracy is not None:
        a = card.accuracy
        said.append(f"{a.correct} of {a.total} right ({percent(a)}; 95 % interval {interval(a)})")
    said.append(f"{quantity(card.parameters)} parameters")
    if card.macs is not None:
        said.append(f"{quantity(card.macs)} MACs")
    return f"It has {', '.join(said)}."


def _accuracy(own: Accuracy, parents: Accuracy | None) -> str:
    if parents is None:
        return f"{own.correct} of {own.total} right ({percent(own)}; 95 % interval {interval(own)})"
    intervals = f"95 % intervals {interval(own)} and {interval(parents)}"
    if own.correct == parents.correct:
        return f"{own.correct} of {own.total} right, as many ({percent(own)}; 95 % interval {interval(own)})"
    points = 100 * (own.share - parents.share)
    change = f"{points:+.1f}" if abs(points) >= 0.05 else f"{points:+.2g}"  # never +0.0
    shares = f"{percent(own)} instead of {percent(parents)}, {change} points"
    return f"{own.correct} of {own.total} right instead of {parents.correct} ({shares}; {intervals})"


def _part(own: int, whole: int) -> str:
    return f"{own / whole:.2f}" if own / whole >= 0.01 else f"{own / whole:.2g}"


def _speed(record: Forward) -> str:
    kind, _, model = record.device.partition(":")
    said = [model.strip()] if model.strip() else []
    said.append(f"batch {record.batch}")
    said += [] if record.dtype == "float32" else [record.dtype]
    said += [] if record.mode == "eager" else [record.mode.replace("_", " ")]
    if record.ratio_low is not None and record.ratio_high is not None:
        said.append(f"{record.ratio_low:.2f} to {record.ratio_high:.2f}")
    return f"{record.ratio:.2f} times as fast on a {'cpu' if kind == 'cpu' else 'GPU'} ({', '.join(said)})"
