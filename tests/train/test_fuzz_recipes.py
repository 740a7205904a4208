"""Recipe files, damaged: read as they are, or refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import CASES, fuzz, through_file

from zoo.train import read_recipe

FILES = sorted((Path(__file__).parents[2] / "zoo" / "train" / "recipes").glob("*.ini"))
WORDS = [
    b"[", b"]", b"[train]", b"[train.shapes]", b"[finetune]", b"[DEFAULT]", b"=", b"\n", b"\r", b"\n ", b"#", b"%(a)s",
    b"nan", b"inf", b"1e999", b"1_0", b"\xff", b"\x00", b"lr", b"epochs",
]  # fmt: skip


@pytest.mark.parametrize("cases", CASES)
def test_no_recipe_harms(cases: int, ram: Path) -> None:
    def read(path: Path) -> None:
        recipe = read_recipe(path, "train", "shapes")
        assert recipe.lr_at(0, 1) > 0
        assert recipe.lr_at(recipe.epochs - 1, 1) >= 0

    fuzz(through_file(ram / "r.ini", read), [path.read_bytes() for path in FILES], cases, words=WORDS)
