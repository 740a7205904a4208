"""What runs keep for later ones, as nobody would write it: it counts as absent, or is refused with a sentence."""

import json
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save

from zoo.errors import ZooError
from zoo.prune.resume import CacheFile, Fingerprint, MatrixCache, ResumeFile

OURS = Fingerprint("hash", (1.0, 2.0))
DEEP = ["[" * 60 + "]" * 60, "[" * 990 + "]" * 990, '{"a":' * 980 + "1" + "}" * 980, "[" * 100_000]
VALUES = [
    "{}",
    "[]",
    "7",
    "null",
    '"x"',
    "",
    "1" + "0" * 400,
    "NaN",
    "[[1], [1, 2]]",
    '{"a": "b"}',
    '{"a": [1' + "0" * 400 + "]}",
]
GOOD = {
    "fingerprint": "hash",
    "outputs": [1.0, 2.0],
    "values": {"a": [1.0]},
    "widths": {"a": 1},
    "groups": [],
    "sizes": {},
}


def notes() -> list[str]:
    fields = [json.dumps({**GOOD, name: "HERE"}).replace('"HERE"', value) for name in GOOD for value in DEEP + VALUES]
    return DEEP + VALUES + fields


def test_a_note_of_any_form_counts_as_none_or_is_refused_in_a_sentence(tmp_path: Path) -> None:
    place = tmp_path / "note"
    for note in notes():
        place.write_text(note)
        assert CacheFile(place, OURS).values in ({}, {"a": [1.0]}), note[:100]
        with suppress(ZooError):
            ResumeFile(place, OURS)
    place.write_text(json.dumps(GOOD))
    assert CacheFile(place, OURS).values == {"a": [1.0]}
    assert ResumeFile(place, OURS).widths == {"a": 1}


def test_matrices_under_metadata_of_any_form_count_as_none(tmp_path: Path) -> None:
    place = tmp_path / "matrices"
    for field in ("outputs", "sizes"):
        for value in DEEP + VALUES:
            metadata = {"fingerprint": "hash", "outputs": "[1.0, 2.0]", "sizes": '{"a": 1}', field: value}
            place.write_bytes(save({"a/0": torch.zeros(2)}, metadata))
            assert not MatrixCache(place, OURS).matrices, value[:100]
    place.write_bytes(save({"a/0": torch.zeros(2)}, {**metadata, "sizes": '{"a": 1}'}))
    assert MatrixCache(place, OURS).matrices is not None
