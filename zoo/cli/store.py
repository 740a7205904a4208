"""The commands that copy entries in and out of the zoo: bundle, publish, cache. They need no torch."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import click

from zoo import store
from zoo.cli.params import FILE, FOLDER, entry_names, mirror_option, user_entry_names
from zoo.display import quantity, table
from zoo.errors import visible

_MIRROR = mirror_option("Where to look for what is not here; may be repeated.")
_SHOWN = 20  # names in a line
_SIGN = click.option("--sign", type=FILE, metavar="KEY", help="Sign the index with this secret key of minisign.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("-o", "--out", type=FILE, help="The file to write, *.zip.")
@click.option("--install", type=FILE, help="Install a bundle's entries.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@_SIGN
@_MIRROR
@_JSON
def bundle(
    names: tuple[str, ...], out: Path | None, install: Path | None, overwrite: bool, sign: Path | None,
    mirror: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Put entries into one file, or install such a file where there is no network.

    \b
    zoo bundle dgcnn-pruned-0.5x dgcnn -o two.zip
    zoo bundle --install two.zip
    """
    if install is not None:
        if names or out or mirror or overwrite or sign:
            raise click.UsageError("--install FILE stands alone, but for --verify-with")
        installed = store.install(install)
        if as_json:
            click.echo(json.dumps([{"name": card.name, "path": str(path)} for card, path in installed], indent=2))
        for card, path in installed if not as_json else ():
            click.echo(visible(f"{card.name}  {path}"))
        return
    if not names or out is None:
        raise click.UsageError("give the entries and the file to write: zoo bundle NAME... -o file.zip")
    cards = store.bundle(names, out, mirror=mirror or None, overwrite=overwrite, sign=_signer(sign))
    if as_json:
        record = {"path": str(out), "size": out.stat().st_size, "entries": [card.name for card in cards]}
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(visible(f"{out}  {quantity(out.stat().st_size)}B  {', '.join(card.name for card in cards)}"))


def _signer(key: Path | None) -> store.Signer | None:
    if key is None:
        return None
    return store.Signer(key, lambda: click.prompt(f"Password of {key}", hide_input=True, err=True))


@click.command()
@click.argument("folder", type=FOLDER, required=False, metavar="FOLDER")
@click.argument("patterns", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("--overwrite", is_flag=True, help="Replace entries of the mirror that are others.")
@_SIGN
@click.option("--new-key", type=FILE, metavar="FILE", help="Make a key for --sign, and its .pub for --verify-with.")
@_JSON
def publish(
    folder: Path | None, patterns: tuple[str, ...], overwrite: bool, sign: Path | None, new_key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Write shipped and own entries, all or those named, into FOLDER: a mirror that any static web server can serve.

    A mirror that is there is added to. Names may hold a *. Own entries that failed (near chance, or with half of what
    the parent knows) are left out unless they are named in full.

    \b
    zoo publish --new-key zoo.key                 once: zoo.key is yours alone, zoo.pub for those who download
    zoo publish FOLDER --sign zoo.key
    zoo download NAME --mirror ADDRESS --verify-with zoo.pub
    """
    if new_key is not None:
        if folder or sign or overwrite:
            raise click.UsageError("--new-key FILE stands alone")
        _make_key(new_key, as_json)
        return
    if folder is None:
        raise click.UsageError("give the folder to write: zoo publish FOLDER [NAME...]")
    signer = _signer(sign)
    done = store.publish(folder, patterns, overwrite=overwrite, sign=signer)
    signed_by = signer and signer.public_key
    if as_json:
        lists = {
            "new": done.new, "replaced": done.replaced, "there": done.unchanged, "missing": done.missing,
            "left_out": done.left_out, "signed_by": signed_by,
        }  # fmt: skip
        click.echo(json.dumps({"folder": str(done.folder), **lists}, indent=2))
        return
    for state, names in (("new", done.new), ("replaced", done.replaced), ("there already", done.unchanged)):
        for name in names:
            click.echo(f"{state:<14}{name}")
    for name, why in done.left_out.items():
        click.echo(f"{'left out':<14}{name} ({why}); to publish it name it in full")
    typed = visible(shlex.quote(str(folder)))
    for name, parent in done.missing.items():
        click.echo(f"{name} lacks its parent here: zoo publish {typed} {parent}")
    click.echo(f"use it with --mirror {typed}, or serve the folder and give its address")
    if signed_by is None:
        click.echo("not signed: who downloads trusts the server (--sign KEY)")
    else:
        click.echo(f"signed, with all that is in {typed}: --verify-with {signed_by} takes nothing else")


def _make_key(file: Path, as_json: bool) -> None:
    text = "Password (nothing: none)"
    prompt = partial(click.prompt, default="", show_default=False, hide_input=True, confirmation_prompt=True, err=True)
    public_key = store.new_key(file, lambda: prompt(text))
    if as_json:
        click.echo(json.dumps({"secret_key": str(file), "public_key": public_key}, indent=2))
    else:
        click.echo(visible(f"{file}  the secret key: keep it; sign with zoo publish FOLDER --sign {file}"))
        click.echo(f"{public_key}  the public key: who downloads gives it with --verify-with")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=user_entry_names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_JSON
def remove(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete entries of your own, card and checkpoint. What was downloaded goes with zoo cache clean NAME."""
    cards = store.user_entries(names)
    if not yes:
        children = store.children_of([card.name for card in cards])
        for card in cards:
            right = f", {card.accuracy.correct} of {card.accuracy.total} right" if card.accuracy else ""
            click.echo(f"{card.name}  {quantity(card.saved.size)}B{right}; made by {card.recipe['command']}", err=True)
        if children:
            more = f", ... ({len(children) - _SHOWN} more)" if len(children) > _SHOWN else ""
            click.echo(f"they are compared with what goes: {', '.join(children[:_SHOWN])}{more}", err=True)
        what = "this entry" if len(cards) == 1 else f"these {len(cards)} entries"
        click.confirm(f"Delete {what}?", abort=True, err=True)
    removed = [(card.name, store.remove(card)) for card in cards]
    if as_json:
        records = [{"name": name, "paths": [str(path) for path in paths]} for name, paths in removed]
        click.echo(json.dumps(records, indent=2))
    for name, _ in removed if not as_json else ():
        click.echo(f"removed  {name}")


@click.group()
def cache() -> None:
    """List, clean or verify what was downloaded, and other files that can be made again."""


@cache.command("list", short_help="List downloaded, unfinished and damaged files.")
@_JSON
def list_(as_json: bool) -> None:
    """List downloaded entries, unfinished and damaged downloads, and what is kept for later runs."""
    items = store.list_cache()
    if as_json:
        click.echo(json.dumps([_as_dict(item) for item in items], indent=2))
    elif items:
        rows = [(item.kind, item.name, f"{quantity(item.size)}B", str(item.paths[0])) for item in items]
        click.echo(table([("what", "name", "size", "where"), *rows]))
        click.echo(f"{quantity(sum(item.size for item in items))}B in all")
    else:
        click.echo("nothing was downloaded", err=True)


@cache.command(short_help="Delete damaged and unfinished downloads, or named entries.")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=entry_names)
@click.option("--all", "everything", is_flag=True, help="Every downloaded entry, and what is kept for later runs.")
@_JSON
def clean(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Delete damaged files and unfinished downloads, and the downloaded entries that are named."""
    deleted = store.clean_cache(names, everything=everything)
    if as_json:
        click.echo(json.dumps([_as_dict(item) for item in deleted], indent=2))
        return
    for item in deleted:
        click.echo(visible(f"removed  {item.kind}  {item.name}  {quantity(item.size)}B"))
    click.echo(f"{quantity(sum(item.size for item in deleted))}B freed")


@cache.command(short_help="Compare every checkpoint with its card.")
@_JSON
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Read every checkpoint on this machine and compare it with its card; exit code 1 if one is damaged."""
    results = store.verify_cache()
    if as_json:
        records = [{"name": r.name, "path": r.path and str(r.path), "problem": r.problem} for r in results]
        click.echo(json.dumps(records, indent=2))
    for result in results if not as_json else ():
        line = f"{'good' if result.problem is None else 'BAD'}  {result.name}  {result.problem or result.path}"
        click.echo(visible(line))
    if any(result.problem for result in results):
        context.exit(1)


def _as_dict(item: store.CacheItem) -> dict[str, object]:
    return {"kind": item.kind, "name": item.name, "size": item.size, "paths": [str(path) for path in item.paths]}
