"""Where on this machine an entry's checkpoint lies, in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from zoo.cards import Card
from zoo.store import store


def locations(card: Card, mirror: Sequence[str] = ()) -> list[str]:
    """One line for each place that has the checkpoint; one that says what to type if none has, for `mirror` too."""
    folders = (("shipped", store.package_dir()), ("your own", store.user_dir()), ("downloaded", store.cache_dir()))
    found = [f"{kind}: {path}" for kind, folder in folders if (path := folder / card.saved.name).is_file()]
    words = ["zoo", "download", card.name, *(word for each in mirror for word in ("--mirror", each))]
    return found or [f"not on this machine: type {shlex.join(words)}"]
