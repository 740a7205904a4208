"""Downloads that resume, from folders, bundles, HTTP servers and Hugging Face. Imports no torch."""

from zoo.transfer.address import local_path, redact, redact_in
from zoo.transfer.base import FetchError, Limits, NoSuchFileError
from zoo.transfer.download import DAMAGED, download_bytes, download_file, quarantine
from zoo.transfer.sources import offline

__all__ = [
    "DAMAGED", "FetchError", "Limits", "NoSuchFileError", "download_bytes", "download_file", "local_path", "offline",
    "quarantine", "redact", "redact_in",
]  # fmt: skip
