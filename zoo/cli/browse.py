"""The commands that show and download entries. They need no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from zoo import display, store
from zoo.cli.list_options import EPILOG, list_options
from zoo.cli.params import FOLDER, entry_names, mirror_option
from zoo.display import DEFAULT_COLUMNS, Query, parse_columns
from zoo.errors import ZooError, visible
from zoo.transfer import redact_in


@click.command("list", short_help="List the entries on this machine, children under their parents.", epilog=EPILOG)
@click.argument("pattern", nargs=-1)
@list_options
def list_(
    pattern: tuple[str, ...], columns: str | None, mirror: tuple[str, ...], as_json: bool, **filters: Any
) -> None:
    """List the entries on this machine, pruned ones under their parents.

    PATTERN is a name in which * stands for anything: zoo list 'dgcnn*'. Of several patterns, any may match. An entry
    whose card does not state a number that an option limits is left out.

    0.24m in a name: 0.24 of the MACs of the network at full width; 0.5x: built half as wide, or pruned to no more MACs
    than that.
    """
    if as_json and columns is not None:
        raise ZooError("--columns chooses what the table shows, --json prints whole cards: give one of them")
    query = Query(pattern=pattern, **filters)
    chosen_columns = DEFAULT_COLUMNS if columns is None else parse_columns(columns)
    cards = store.cards(mirror)
    selected = query.select(cards)
    if as_json:
        click.echo(json.dumps([json.loads(card.to_json()) for card in selected.values()], indent=2))
    elif selected:
        views = {name: query.view(card) for name, card in selected.items()}
        click.echo(display.card_table(views, chosen_columns, families=query.sort is None))
    if not cards:
        click.echo("the zoo is empty: make an entry with zoo train, or zoo download NAME --mirror M", err=True)
        return
    for remark in query.remarks(cards):
        click.echo(redact_in(remark), err=True)


@click.command(short_help="Show an entry's card, its parent beside it.")
@click.argument("name", shell_complete=entry_names)
@mirror_option("Look here as well [ZOO_MIRROR, for what is not here]; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is stored.")
def info(name: str, mirror: tuple[str, ...], as_json: bool) -> None:
    """Show an entry's card: what it is, its parent beside it, how to make it again, terms of use.

    NAME may be the path of a checkpoint, as zoo convert writes it.
    """
    if store.is_path(name):
        store.checkpoint_at(name)  # what is no checkpoint is named at once
        from zoo.file_entry import find_entry  # imports torch, which entries do without

        path, card = find_entry(name)
        page = card.to_json().rstrip() if as_json else display.card_page(card, store.cards(), [str(path)])
        click.echo(page)
        return
    try:
        card = store.info(name, mirror=mirror)
    except ZooError:
        if mirror or not store.configured_mirrors():
            raise
        card = store.info(name, mirror=store.configured_mirrors())  # of ZOO_MIRROR, as zoo download does
    if as_json:
        click.echo(card.to_json(), nl=False)
    else:
        from zoo.workflows import stated_settings  # not at the top: zoo list does without it

        shipped = store.is_shipped(card.name)
        stated = stated_settings(str(card.recipe["command"]))
        places = store.locations(card, mirror)
        click.echo(display.card_page(card, store.cards(mirror), places, shipped=shipped, stated=stated))


@click.command(short_help="Put an entry's checkpoint on this machine, verified.")
@click.argument("name", shell_complete=entry_names)
@click.option("--to", type=FOLDER, help="Copy checkpoint and card here too.")
@mirror_option("Folder, bundle, file://, http(s)://, hf://; may be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace another entry of that name in the folder of --to.")
@click.option("--json", "as_json", is_flag=True, help="Print name, path, size, SHA-256 and licences as JSON.")
def download(name: str, to: Path | None, mirror: tuple[str, ...], overwrite: bool, as_json: bool) -> None:
    """Put an entry's checkpoint on this machine, verified, and print its path.

    What is not on this machine comes from the mirrors of --mirror, or else from those that ZOO_MIRROR lists.
    """
    path, card = store.fetch(name, to=to, mirror=mirror or None, overwrite=overwrite)
    if not as_json:
        click.echo(visible(str(path)))
        if store.is_downloaded(card.name) and store.demanded_key() is None:
            click.echo("no signature was asked for (--verify-with KEY): its mirror alone vouches for it", err=True)
        click.echo(f"terms of use: {card.licences.line()}", err=True)
        return
    record = {"name": card.name, "path": str(path), "size": card.saved.size, "sha256": card.saved.sha256}
    click.echo(json.dumps({**record, "licences": vars(card.licences)}, indent=2, sort_keys=True))
