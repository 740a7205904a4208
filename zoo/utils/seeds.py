"""Seeds of random generators: the range that a seed may have, and the seeds of the parts of one run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact: the seed stands on the card


def check_seed(seed: int) -> None:
    """Raise ZooError for a seed that torch's generators or a card do not take."""
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise ZooError(f"the seed is {seed!r}: give a whole number from 0 to {MAX_SEED}")


def derive_seed(*parts: int | str) -> int:
    """One seed from several numbers and words, the same in every process (unlike `hash`).

    Two numbers, the seed of a run and the index of an epoch or neuron group, give ``seed * 1_000_003 + index`` modulo
    2**63; all other parts are hashed. Both are frozen: another formula would give other networks and other data.

    >>> derive_seed(0, 3), derive_seed(2, 0), derive_seed("train", 7)
    (3, 2000006, 66406631856479537)
    """
    match parts:
        case (int(seed), int(index)):
            return (seed * 1_000_003 + index) % 2**63
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def generator_for(*parts: int | str) -> torch.Generator:
    """A new CPU generator with the seed that `derive_seed` gives for these parts."""
    import torch  # listing and downloading entries use this package without torch

    return torch.Generator().manual_seed(derive_seed(*parts))
