"""`python -m zoo` is `zoo`; torchrun starts it so: torchrun --nproc-per-node 2 -m zoo train ..."""

from zoo.cli import main

if __name__ == "__main__":
    main(prog_name="zoo")
