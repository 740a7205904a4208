"""Seeds: those that a generator takes, and others that follow from one."""

from zoo.errors import ZooError

LARGEST = 2**53 - 1  # which every reader of a card's JSON takes for itself


def check_seed(seed: int) -> None:
    """Raise ZooError for a seed that torch's generators or a card do not take."""
    if type(seed) is not int or not 0 <= seed <= LARGEST:
        raise ZooError(f"the seed is {seed!r}: give a whole number from 0 to {LARGEST}")


def seed_of(seed: int, index: int) -> int:
    """Another seed for each epoch or neuron group of a run.

    >>> seed_of(0, 3), seed_of(2, 0)
    (3, 2000006)
    """
    return (seed * 1_000_003 + index) % 2**63
