"""Seeds: their range, and the ones that follow from others, which must never change."""

import pytest
import torch

from zoo.errors import ZooError
from zoo.utils import MAX_SEED, check_seed, derive_seed, generator_for


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, True, "0", None])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ZooError, match=r"the seed is .*: give a whole number from 0 to"):
        check_seed(seed)  # type: ignore[arg-type]


def test_the_seeds_of_a_run_and_of_the_data_are_those_of_every_machine_and_version() -> None:
    check_seed(MAX_SEED)
    assert derive_seed(0, "train", 7) == 68540186518517185
    assert (derive_seed(0, 3), derive_seed(2, 0), derive_seed(2**62, 5)) == (3, 2000006, 4611686018427387909)
    parts: list[tuple[int | str, ...]] = [(1, 23), (12, 3), (123,), ("1", 23), (23, 1)]
    assert len({derive_seed(*each) for each in parts}) == len(parts)


def test_a_generator_is_seeded_with_the_derived_seed() -> None:
    expected = torch.Generator().manual_seed(derive_seed("shapes", 1))
    assert torch.equal(torch.rand(4, generator=generator_for("shapes", 1)), torch.rand(4, generator=expected))
