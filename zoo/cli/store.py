"""The commands that move entries about: parse, call one library function, print. None of them needs torch."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import click

from zoo import store
from zoo.cli.completion import entry_names
from zoo.cli.params import FILE, FOLDER
from zoo.display import quantity, table

_MIRROR = click.option("--mirror", "mirror", multiple=True, help="Where to look for what is not here; may be repeated.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("-o", "--out", type=FILE, help="The file to write, *.zip.")
@click.option("--install", type=FILE, help="Install a bundle's entries.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@_MIRROR
@_JSON
def bundle(
    names: tuple[str, ...], out: Path | None, install: Path | None, overwrite: bool, mirror: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Put entries into one file, or install such a file where there is no network.

    \b
    zoo bundle dgcnn-pruned-0.5x dgcnn -o two.zip
    zoo bundle --install two.zip
    """
    from zoo import store

    if install is not None:
        if names or out or mirror or overwrite:
            raise click.UsageError("--install FILE stands alone")
        found = store.install(install)
        if as_json:
            click.echo(json.dumps([{"name": card.name, "path": str(path)} for card, path in found], indent=2))
        for card, path in found if not as_json else ():
            click.echo(f"{card.name}  {path}")
        return
    if not names or out is None:
        raise click.UsageError("give the entries and the file to write: zoo bundle NAME... -o file.zip")
    cards = store.bundle(names, out, mirror=mirror or None, overwrite=overwrite)
    if as_json:
        record = {"path": str(out), "size": out.stat().st_size, "entries": [card.name for card in cards]}
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(f"{out}  {quantity(out.stat().st_size)}B  {', '.join(card.name for card in cards)}")


@click.command()
@click.argument("folder", type=FOLDER)
@click.argument("patterns", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("--overwrite", is_flag=True, help="Replace entries of the mirror that are others.")
@_JSON
def publish(folder: Path, patterns: tuple[str, ...], overwrite: bool, as_json: bool) -> None:
    """Write shipped and own entries, all or those named, into FOLDER: a mirror that any static web server can serve.

    A mirror that is there is added to. Names may hold a *.
    """
    done = store.publish(folder, patterns, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({**asdict(done), "folder": str(done.folder)}, indent=2))
        return
    for what, entries in (("new", done.new), ("replaced", done.replaced), ("there already", done.there)):
        for name in entries:
            click.echo(f"{what:<14}{name}")
    for name, parent in done.missing.items():
        click.echo(f"{name} lacks its parent here: zoo publish {shlex.quote(str(folder))} {parent}")
    click.echo(f"use it with --mirror {shlex.quote(str(folder))}, or serve the folder and give its address")


@click.group()
def cache() -> None:
    """What was downloaded, and other things that can be had again: list, clean, verify."""


@cache.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List what was downloaded, left unfinished, set aside, or kept for later runs."""
    found = store.list_cache()
    if as_json:
        click.echo(json.dumps([_record(item) for item in found], indent=2))
    elif found:
        rows = [(item.kind, item.name, f"{quantity(item.size)}B", str(item.paths[0])) for item in found]
        click.echo(table([("what", "name", "size", "where"), *rows]))
        click.echo(f"{quantity(sum(item.size for item in found))}B in all")
    else:
        click.echo("nothing was downloaded", err=True)


@cache.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("--all", "everything", is_flag=True, help="Every downloaded entry, and what is kept for later runs.")
@_JSON
def clean(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Remove damaged files and unfinished downloads; with names those downloaded entries too."""
    removed = store.clean_cache(names, everything=everything)
    if as_json:
        click.echo(json.dumps([_record(item) for item in removed], indent=2))
        return
    for item in removed:
        click.echo(f"removed  {item.kind}  {item.name}  {quantity(item.size)}B")
    click.echo(f"{quantity(sum(item.size for item in removed))}B freed")


@cache.command()
@_JSON
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Read every entry on this machine whole and compare it with its card; exit code 1 if one is damaged."""
    found = store.verify_cache()
    if as_json:
        records = [{"name": each.name, "path": each.path and str(each.path), "problem": each.problem} for each in found]
        click.echo(json.dumps(records, indent=2))
    for each in found if not as_json else ():
        click.echo(f"{'good' if each.problem is None else 'BAD'}  {each.name}  {each.problem or each.path}")
    if any(each.problem for each in found):
        context.exit(1)


def _record(item: store.Item) -> dict[str, object]:
    return {"kind": item.kind, "name": item.name, "size": item.size, "paths": [str(path) for path in item.paths]}
