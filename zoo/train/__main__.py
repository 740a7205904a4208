"""`torchrun -m zoo.train dgcnn ...` is `zoo train dgcnn ...`."""

import sys

from zoo.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]], prog_name="zoo")
