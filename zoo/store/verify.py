"""What was hashed once need not be hashed at every load: a note says which size and times the file had then.

The notes lie under ``ZOO_HOME/verified``. A note counts as long as the file's size and times are those of the note, and
only if the file was already at rest when it was hashed: a file written to within the clock's resolution could keep its
times (as Git's index has it, "racy" entries).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from zoo.errors import ZooError
from zoo.utils import new_file, sha256_of

AT_REST = 2.0  # seconds since the last change


def sha256_of_known(path: Path, notes: Path, *, anew: bool = False) -> str:
    """The file's SHA-256, from the notes in a folder if the file is as it was; ``anew`` reads it in any case."""
    state = path.stat()
    now = {"path": str(path.absolute()), "size": state.st_size, "mtime": state.st_mtime_ns, "ctime": state.st_ctime_ns}
    place = notes / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json"
    if not anew:
        with suppress(OSError, ValueError, AttributeError, TypeError):
            note = json.loads(place.read_bytes())
            sha256 = note.pop("sha256")
            if note == now and isinstance(sha256, str):
                return sha256
    started = time.time()
    found = sha256_of(path)
    if started - max(state.st_mtime, state.st_ctime) > AT_REST:
        with suppress(ZooError), new_file(place) as out:  # without notes it is only slower
            out.write(json.dumps({**now, "sha256": found}, sort_keys=True).encode())
    return found
