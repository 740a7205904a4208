"""A card in two sentences: what the entry is, and what was measured of it beside its parent.

A number that the card does not state is not mentioned.
"""

from __future__ import annotations

import re

from zoo.cards import UNKNOWN, Accuracy, Card, Forward
from zoo.display.format import interval, percent, quantity

# Networks whose usual spelling is not their name here, with the article that the spelling asks for.
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
_SIZE = re.compile(r"-(pruned-)?(\d+(?:\.\d+)?)([xm])(?=[-.]|$)")  # in the name of an entry, behind its network's
_ORIGINS = {"zoo reprune": "pruned from", "zoo finetune": "trained further from"}  # by the command of the recipe


def describe(card: Card) -> str:
    """One sentence on network, task, data and origin."""
    arch = _ARCHS.get(card.arch) or f"{'an' if card.arch[0] in 'aeiou' else 'a'} {card.arch}"
    of = "" if card.dataset == UNKNOWN else f" of {card.data_title}"
    classes = f"{card.num_classes} class{'' if card.num_classes == 1 else 'es'}{of}"
    text = f"{card.name} is {arch} for {card.task} ({classes}; one input is {' x '.join(map(str, card.sample_shape))})"
    if card.parent is None:
        return f"{text}."
    command = " ".join(str(card.recipe["command"]).split()[:2])
    text, start = f"{text}, {_ORIGINS.get(command, 'made from')}", card.recipe.get("start")
    if start not in (None, card.parent):  # a pruned network that was trained further: its parent is the dense one
        return f"{text} {start} and compared with {card.parent}."
    return f"{text} {card.parent}."


def explain_name(card: Card) -> str:
    """One line on what the size in the entry's name means; nothing for a name without one."""
    size = _SIZE.match(card.name.removeprefix(card.arch))
    if size is None or not card.name.startswith(card.arch):
        return ""
    pruned, number, kind = size.groups()
    if kind == "m":
        return f"{number}m in the name: {number} of the MACs of the network at full width, rounded up."
    if pruned:
        return f"{number}x in the name: no more MACs than the network that is built {number} times as wide."
    return f"{number}x in the name: every layer is built {number} times as wide."


def describe_cost(card: Card, parent: Card | None = None) -> str:
    """One sentence on accuracy, size and speed: beside the parent's numbers if the entry has a parent, or else alone.

    ``parent`` is the parent's card, if it is known. MACs are compared only between inputs of the same shape.
    """
    accuracy, parts = card.accuracy, []
    if card.parent is None:
        parts = [_accuracy(accuracy, None)] if accuracy is not None else []
        parts.append(f"{quantity(card.parameters)} parameters")
        parts += [f"{quantity(card.macs)} MACs"] if card.macs is not None else []
        return f"It has {', '.join(parts)}."
    if accuracy is not None:
        parts.append(_accuracy(accuracy, card.parent_accuracy))
    if parent is not None:
        if card.macs and parent.macs and card.sample_shape == parent.sample_shape:
            parts.append(f"{_ratio(card.macs, parent.macs)} of its MACs")
        if card.parameters and parent.parameters:
            parts.append(f"{_ratio(card.parameters, parent.parameters)} of its parameters")
    parts += [_speed(record) for record in card.forward if record.ratio is not None]
    return f"Beside its parent: {', '.join(parts)}." if parts else ""


def _accuracy(accuracy: Accuracy, reference: Accuracy | None) -> str:
    correct = f"{accuracy.correct} of {accuracy.total} right"
    alone = f"({percent(accuracy)}; 95 % interval {interval(accuracy)})"
    if reference is None:
        return f"{correct} {alone}"
    if accuracy.correct == reference.correct:
        return f"{correct}, as many {alone}"
    points = 100 * (accuracy.share - reference.share)
    change = f"{points:+.1f}" if abs(points) >= 0.05 else f"{points:+.2g}"  # a difference is never written as +0.0
    shares = f"{percent(accuracy)} instead of {percent(reference)}, {change} points"
    intervals = f"95 % intervals {interval(accuracy)} and {interval(reference)}"
    return f"{correct} instead of {reference.correct} ({shares}; {intervals})"


def _ratio(count: int, reference: int) -> str:
    ratio = count / reference
    return f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.2g}"


def _speed(record: Forward) -> str:
    kind, _, model = record.device.partition(":")
    setup = [model.strip(), f"batch {record.batch}"]
    setup.append("" if record.dtype == "float32" else record.dtype)
    setup.append("" if record.mode == "eager" else record.mode.replace("_", " "))
    if record.ratio_low is not None and record.ratio_high is not None:
        setup.append(f"{record.ratio_low:.2f} to {record.ratio_high:.2f}")
    device = "cpu" if kind == "cpu" else "GPU"
    return f"{record.ratio:.2f} times as fast on a {device} ({', '.join(filter(None, setup))})"
