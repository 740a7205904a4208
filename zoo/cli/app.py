"""The command ``zoo``: its subcommands, and how errors end it.

A subcommand parses its options, calls one library function and prints the result. A `ZooError` from the library ends
the command with ``Error: <message>`` and exit code 2. All but the quick subcommands are imported when they are run, so
that ``zoo list`` and ``zoo --help`` do not wait for torch.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from zoo.cli.browse import download, info, list_
from zoo.cli.sigterm import exit_on_sigint, install_sigterm_handler
from zoo.errors import ZooError, suggest
from zoo.transfer import redact_in
from zoo.utils import make_streams_visible, visible_streams

# Subcommands that are imported on use: name -> (module:function, line in `zoo --help`).
LAZY = {
    "reprune": ("zoo.cli.reprune:reprune", "Prune a network with a new tolerance, measure it, keep it."),
    "train": ("zoo.cli.train:train", "Train a network and keep it."),
    "finetune": ("zoo.cli.train:finetune", "Train an entry further and keep the result."),
    "eval": ("zoo.cli.evaluate:evaluate", "Count an entry's right answers on a data set."),
    "predict": ("zoo.cli.predict:predict", "Print the most probable classes of image, mesh and cloud files."),
    "bench": ("zoo.cli.evaluate:bench", "Time an entry's forward pass beside its parent's."),
    "export": ("zoo.cli.convert:export", "Write an entry's network as ONNX, torch.export or TorchScript."),
    "convert": ("zoo.cli.convert:convert", "Turn a file of weights into one of the zoo's checkpoints."),
    "bundle": ("zoo.cli.store:bundle", "Put entries into one file, or install such a file."),
    "cache": ("zoo.cli.store:cache", "List, clean or verify what was downloaded."),
    "remove": ("zoo.cli.store:remove", "Delete entries of your own."),
    "publish": ("zoo.cli.store:publish", "Write a mirror that any static web server can serve."),
}
_RUNNING = "zoo.cli.command"  # where a context keeps the command that runs
DISTRIBUTED = ("eval", "finetune", "reprune", "train")  # may run in several processes
TORCHRUN_SECONDS = 10.0  # within which torchrun ends the other processes after one has failed


class ZooGroup(click.Group):
    """A group that imports the commands of `LAZY` on use, and that a `ZooError` ends with exit code 2."""

    def __call__(self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any) -> Any:
        """Run a command.

        The process is the command's own where no words are given, as by the console script, or the program's name is,
        as by ``python -m zoo``: it then ends with a sentence on SIGTERM, and a traceback cannot speak to the terminal
        either. A program that calls a command with words keeps its handlers and its streams.
        """
        if args is None or prog_name is not None:
            install_sigterm_handler()
            make_streams_visible()
        return super().__call__(args, prog_name, **more)

    def main(self, *args: Any, **more: Any) -> Any:
        with visible_streams():
            return super().main(*args, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:  # for help and completion its name and line are enough; see resolve_command
            return click.Command(cmd_name, short_help=LAZY[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1" and args[0] not in DISTRIBUTED:
            _wait_for_first_process()
            raise ZooError(f"zoo {args[0]} is for one process: start it without torchrun")
        if args[0] in LAZY:
            module, _, attribute = LAZY[args[0]][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            ctx.meta[_RUNNING] = command
            return args[0], command, args[1:]
        if not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"no command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}")
        name, found, rest = super().resolve_command(ctx, args)
        ctx.meta[_RUNNING] = found
        return name, found, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError:
            _wait_for_first_process()
            raise
        except KeyboardInterrupt:
            raise SystemExit(exit_on_sigint(ctx.invoked_subcommand)) from None
        except ZooError as error:
            if "torch" not in sys.modules:  # found in the words alone, by every process
                _wait_for_first_process()
            raise _CommandError(_with_option_names(ctx.meta.get(_RUNNING), str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has ended: click ends silently
                raise
            file = f"{error.filename}: " if error.filename else ""
            raise _CommandError(f"{file}{error.strerror or error}") from error


def _with_option_names(command: click.Command | None, message: str) -> str:
    if command is None:
        return message
    from zoo.cli.wording import with_option_names

    return with_option_names(command, message)


class _CommandError(click.ClickException):
    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(redact_in(message))  # an address typed where a name or a file belongs


def _wait_for_first_process() -> None:
    """Let the first process of torchrun print an error in the options, which every process finds, for all of them.

    torchrun ends the others as soon as the first has failed. One that still runs afterwards prints the error itself.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(TORCHRUN_SECONDS)


# The zoo prints no colours: what looks like one comes from outside, and `color` lets it through, to be made visible.
@click.group(cls=ZooGroup, context_settings={"help_option_names": ["-h", "--help"], "color": True})
@click.version_option(package_name="pruned-zoo")
def main() -> None:
    """A point-cloud and vision model zoo with pruned variants, measured beside their parents."""


main.add_command(list_)
main.add_command(info)
main.add_command(download)
