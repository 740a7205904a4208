"""Downloads that resume, from folders, bundles, HTTP servers and Hugging Face. Imports no torch."""

from zoo.transfer.download import DAMAGED, fetch, fetch_text, set_aside
from zoo.transfer.sources import FetchError, NoSuchFileError, offline, shown

__all__ = [
    "DAMAGED",
    "FetchError",
    "NoSuchFileError",
    "fetch",
    "fetch_text",
    "offline",
    "set_aside",
    "shown",
]
