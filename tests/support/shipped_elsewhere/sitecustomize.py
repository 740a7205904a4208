"""For processes that a test starts: what the package ships lies where SHIPPED says."""

import os
from pathlib import Path

from zoo.store import store

store.package_dir = lambda: Path(os.environ["SHIPPED"])
