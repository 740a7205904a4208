"""Downloads that resume, from folders, bundles, HTTP servers and Hugging Face. Imports no torch."""

from zoo.transfer.base import FetchError, NoSuchFileError
from zoo.transfer.download import DAMAGED, download_bytes, download_file, quarantine
from zoo.transfer.http import redact
from zoo.transfer.sources import offline

__all__ = [
    "DAMAGED", "FetchError", "NoSuchFileError", "download_bytes", "download_file", "offline", "quarantine", "redact",
]  # fmt: skip
