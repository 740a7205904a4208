"""Files that claim to be larger than they are take little more memory than they have bytes, and are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
SENTENCES = {
    "bundle_deflated": "its member 'index.json' is compressed",
    "bundle_bzip2": "its member 'index.json' is compressed",
    "bundle_lzma": "its member 'index.json' is compressed",
    "bundle_name_is_not_utf8": "is no readable bundle: its end is missing or damaged",
    "bundle_name_begins_with_nul": "has no name that a file can have",
    "bundle_members_share_their_bytes": "its members are larger than the file: they share their bytes",
    "bundle_with_a_large_directory": "the directory of its members has 6004656 bytes",
    "deflated_record": "its member 'whole/data.pkl' is compressed",
    "expanded_tensor": "repeat the same numbers again and again, as hidden1.weight [7, 10000000000]",
    "expanded_tensor_beyond_all_numbers": "no mlp can be built with {'in_features': 2305843009213693952}",
    "expanded_sparse_tensor": "it calls torch._utils._rebuild_sparse_tensor as torch.save never does",
    "storage_that_is_not_there": "a storage of 8589934588 bytes is not in it",
    "storage_that_is_not_there_before_1_6": "a storage of 8589934588 bytes is not in it",
    "tensor_beyond_its_storage": "a tensor of the shape [2147483647] in it reaches beyond its numbers",
    "memory_for_a_number": "it calls builtins.bytearray as torch.save never does",
    "memory_for_a_tensor": "the class torch.FloatTensor under the key `a` stands in the way",
    "memory_for_a_storage": "it calls torch.storage.UntypedStorage as torch.save never does",
    "memory_for_a_function_of_another": "the class torch.FloatTensor under the key `a` stands in the way",
    "quantized_tensor": "it holds tensors that are quantized",
    "nested_tensor": "it holds tensors that are nested",
    "tensor_of_a_device_that_repeats": "it holds tensors that are of a device",
    "the_same_bytes_copied": "it makes the same data again and again",
    "the_same_array_copied": "it makes the same data again and again",
    "text_that_doubles": "it calls _codecs.encode as torch.save never does",
    "set_of_a_tensor_that_repeats": "it calls builtins.set as torch.save never does",
    "tuples_in_tuples": "tuples are nested more than 32 deep in it",
    "lists_without_end": "its lists and names take more than 2000000 steps to read",
    "keys_with_one_hash": "it holds more than 4096 integers of more than 32 bits",
    "long_names": "holds no weights: its keys are xxx",
    "classes_without_end": "the class a.0 stands in the way",
    "large_header": "has a header of 3060149 bytes",
    "shape_beyond_all_numbers": "holds a tensor that cannot be read",
    "shape_of_many_axes": "a of 100000 axes is not part of the model",
    "network_cut_from_a_huge_one": "has 1000000 classes: to build vgg11 for so many takes 16903087360 bytes",
    **dict.fromkeys(["honest_conversion", "honest_conversion_before_1_6"], "no error"),
    **dict.fromkeys(["honest_checkpoint", "honest_bundle"], "no error"),
    "large_index": "it is a JSON text of 9000029 bytes",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int, float, str]]:
    """What became of each attack: bytes of the file, by how many the process grew, seconds, the sentence."""
    pytest.importorskip("resource")
    words = [sys.executable, str(SUPPORT / "size_attacks.py"), str(tmp_path_factory.mktemp("attacks"))]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {name: tuple(outcome) for name, outcome in json.loads(run.stdout).items()}  # type: ignore[misc]


def test_no_attack_is_left_out(outcomes: dict[str, tuple[int, int, float, str]]) -> None:
    assert outcomes.keys() == SENTENCES.keys()


@pytest.mark.parametrize("name", SENTENCES)
def test_an_attack_on_the_memory_is_refused(outcomes: dict[str, tuple[int, int, float, str]], name: str) -> None:
    size, grown, seconds, sentence = outcomes[name]
    assert SENTENCES[name] in sentence
    assert "Error: " not in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1000
    # A pickle of nothing but empty lists takes 64 bytes for each of its own, until it is given up.
    assert grown < (24 << 20) + (40 if name == "lists_without_end" else 6) * size
    assert seconds < 20
