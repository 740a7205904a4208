"""Errors of the library in the words of a command: a parameter becomes the option that was, or can be, typed.

The library writes the parameters that a user can change between backticks, with or without a value: "give its folder
with `data_dir=DIR`, or let it be fetched with `download=True`". The command line prints "--data-dir DIR" and
"--download". Other text between backticks, such as a command, stays.
"""

from __future__ import annotations

import re

import click

from zoo.workflows import SETTING_TYPES

_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`\s]+))?`")
# Fields of records that an option sets under another name.
_OPTION_OF = {
    "macs": "target_macs", "parameters": "target_params", "milliseconds": "target_latency", "minimum": "min_width",
}  # fmt: skip


def with_option_names(command: click.Command, message: str) -> str:
    """The message with every parameter that the command has an option for as that option."""
    params = {param.name: param for param in reversed(command.params) if param.name}  # of two, the first one

    def option_name(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        param = params.get(name) or params.get(_OPTION_OF.get(name, ""))
        if isinstance(param, click.Argument):
            return param.make_metavar(click.Context(command))
        if param is None:
            setting = next((full for full in SETTING_TYPES if full.rpartition(".")[2] == name), None)
            if setting is None or "settings" not in params:
                return match[0]
            return f"-O {setting}" if value is None else f"-O {setting}={value.lower()}"
        if value == "False":
            return next(iter(param.secondary_opts), f"no {_longest(param)}")
        return _longest(param) if value in (None, "True") else f"{_longest(param)} {value}"

    return _PARAMETER.sub(option_name, message)


def _longest(param: click.Parameter) -> str:
    return max(param.opts, key=len)
