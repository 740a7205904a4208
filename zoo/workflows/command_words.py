"""The words of the command that makes an entry again, from the settings on its card. Imports no torch.

Cards name a setting as the option of the first version was called. Options that have another name today, and the
settings of pruning that are given as `-O name=value`, are translated by the one table here. It serves new cards, old
cards, and old commands that users type.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.cards import Value
from zoo.prune import REPAIR_ALIASES, SEARCH_ALIASES, WEIGHTING_ALIASES, Options
from zoo.utils import setting_types

RENAMED = {
    "--images": "--samples",
    "--leave": "--exclude",
    "--half": "--fp16-weights",
    "--out": "--output-dir",
    "--target-ms": "--target-latency",
}
TARGETS = {"target_macs": "macs", "target_params": "parameters", "target_ms": "milliseconds"}  # on cards -> of Budget
SETTING_TYPES = setting_types(Options)  # what `-O name=value` takes
# Name of a setting -> its option in the first version.
_FIRST_OPTIONS = {
    **{f"search.{new}": old for old, new in SEARCH_ALIASES.items()},
    **{f"repair.{new}": old for old, new in REPAIR_ALIASES.items() if old != "readers"},
    "repair.weighting": "weighting",
    "search.holdout": "holdout",
    "discrepancy": "discrepancy",
    "batch_size": "prune_batch_size",
}
_OPTIONS_OF_TODAY = {
    "repair.update_weights": "repair",
    "repair.recalibrate": "recalibrate",
    "repair.distil_epochs": "distil_epochs",
    "search.round_to": "round_to",
}


def _translations() -> dict[str, str]:
    """Old option -> its setting: `name=true`, `name=false`, or `name={}` where the value is the next word."""
    table: dict[str, str] = {}
    for name, option in _FIRST_OPTIONS.items():
        word = option.replace("_", "-")
        if SETTING_TYPES[name] is bool:
            table |= {f"--{word}": f"{name}=true", f"--no-{word}": f"{name}=false"}
        else:
            table[f"--{word}"] = f"{name}={{}}"
    return table


_AS_SETTING = _translations()


def translate_old_options(words: Sequence[str]) -> list[str]:
    """The words of a command (train, finetune or reprune) with the options of earlier versions in today's form."""
    current: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in RENAMED:
            current.append(RENAMED[option] + equals + value)
        elif option in _AS_SETTING:
            setting = _AS_SETTING[option]
            if setting.endswith("{}"):
                value = value if equals else next(rest, "")
                setting = setting.format(WEIGHTING_ALIASES.get(value, value) if option == "--weighting" else value)
            current += ["-O", setting]
        else:
            current.append(word)
    return current


def command_line(command: str, argument: str, recipe: Mapping[str, Value]) -> str:
    """The text to type, from the settings on a card: `zoo train dgcnn --dataset shapes --epochs 60`.

    A setting of None or False is left out, one of True is an option without a value, the values of a tuple follow one
    another.
    """
    words = ["zoo", command, argument]
    for key, value in recipe.items():
        if value is None or value is False:
            continue
        words.append("--" + key.replace("_", "-"))
        if value is not True:
            words += [str(part) for part in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(translate_old_options(words))


def stated_settings(command: str) -> set[str]:
    """The names on cards of the settings that a command states."""
    stated: set[str] = set()
    first_names = {today: first for first, today in RENAMED.items()}
    words = translate_old_options(_split_words(command))
    for word, following in zip(words, [*words[1:], ""], strict=False):  # of an empty command there is no word
        if word == "-O":
            name = following.partition("=")[0]
            key = {**_OPTIONS_OF_TODAY, **_FIRST_OPTIONS}.get(name, name)
            stated |= {key, f"no_{key}"}
        elif word.startswith("--"):
            option = word.partition("=")[0]
            stated.add(first_names.get(option, option)[2:].replace("-", "_"))
    return stated


def same_command(one: str, other: str) -> bool:
    """Whether two commands say the same, in whatever order and with the options of whatever version."""
    return _sorted_options(one) == _sorted_options(other)


def _split_words(command: str) -> list[str]:
    """The words of a command; of one that no shell would take, because a quotation does not end, what spaces divide."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _sorted_options(command: str) -> list[list[str]]:
    """The command's words: those before the first option, then each option with its values, sorted."""
    parts: list[list[str]] = [[]]
    for word in translate_old_options(_split_words(command)):
        if re.match("--?[a-zA-Z]", word):
            parts.append([])
        parts[-1].append(word)
    return [parts[0], *sorted(parts[1:])]


def settings_on_card(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Value]:
    """The settings of pruning that differ from the defaults, both by dotted name, as cards state them."""
    weightings = {new: old for old, new in WEIGHTING_ALIASES.items()}
    stated: dict[str, Value] = {}
    for name, value in settings.items():
        if value == defaults[name]:
            continue
        key = {**_FIRST_OPTIONS, **_OPTIONS_OF_TODAY}[name]
        if isinstance(value, bool):
            stated[key if value else f"no_{key}"] = True
        else:
            stated[key] = weightings.get(value, value) if name == "repair.weighting" else value
    return stated
