"""For processes that a test starts: what the package ships lies where SHIPPED says."""

import os
from pathlib import Path

from zoo.store import folders

folders.PACKAGE_DIR = Path(os.environ["SHIPPED"])
