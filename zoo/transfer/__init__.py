"""Downloads that resume, from folders, bundles, HTTP servers and Hugging Face. Imports no torch."""

from zoo.transfer.download import DAMAGED, fetch, fetch_text, set_aside
from zoo.transfer.sources import FetchError, offline, shown

__all__ = [
    "DAMAGED",
    "FetchError",
    "fetch",
    "fetch_text",
    "offline",
    "set_aside",
    "shown",
]
