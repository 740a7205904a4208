"""Right answers that an earlier run counted are used again only where nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo import evaluate as evaluation_package
from zoo.evaluate import evaluate
from zoo.workflows import earlier_evaluation
from zoo.workflows.earlier_evaluation import measure_or_reuse


class Samples(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """70 random images of three classes, as data sets of the zoo offer theirs."""

    sample_shape = (3, 8, 8)

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(70, 3, 8, 8, generator=generator)
        self.labels = torch.randint(3, (70,), generator=generator)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.labels[index])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the number of samples of every evaluation that was really done."""
    calls: list[int] = []

    def counted(model: nn.Module, samples: Any, **options: Any) -> evaluation_package.Evaluation:
        calls.append(len(samples))
        return evaluate(model, samples, **options)

    monkeypatch.setattr(earlier_evaluation, "evaluate", counted)
    return calls


def test_the_second_time_nothing_is_evaluated_and_the_result_is_the_same(
    model: nn.Module, evaluated: list[int], tmp_path: Path
) -> None:
    truth = evaluate(model, Samples())
    results = [measure_or_reuse(model, Samples(), tmp_path / "known.json") for _ in range(3)]
    assert evaluated == [70]
    for measured, seconds in results:
        assert measured.evaluation == truth  # all counts and bounds
        assert torch.equal(measured.evaluation.hits, truth.hits)
        assert torch.equal(measured.evaluation.predictions, truth.predictions)
        assert measured.counts.macs == results[0][0].counts.macs
        assert seconds == results[0][1] > 0


def _other_sample(samples: Samples) -> None:
    samples.inputs[69, 2, 7, 7] += 1e-3  # the last pixel of the last one


def _other_label(samples: Samples) -> None:
    samples.labels[40] = (samples.labels[40] + 1) % 3


@pytest.mark.parametrize("change", [_other_sample, _other_label])
def test_another_sample_or_label_is_evaluated_anew(
    change: Callable[[Samples], None], model: nn.Module, evaluated: list[int], tmp_path: Path
) -> None:
    measure_or_reuse(model, Samples(), tmp_path / "known.json")
    changed = Samples()
    change(changed)
    measured, _ = measure_or_reuse(model, changed, tmp_path / "known.json")
    assert evaluated == [70, 70]
    assert torch.equal(measured.evaluation.hits, evaluate(model, changed).hits)


def test_a_network_that_computes_something_else_is_evaluated_anew(
    model: nn.Module, evaluated: list[int], tmp_path: Path
) -> None:
    measure_or_reuse(model, Samples(), tmp_path / "known.json")
    model[1] = nn.GELU()  # the same weights
    measure_or_reuse(model, Samples(), tmp_path / "known.json")
    assert evaluated == [70, 70]


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"outputs": "x"}', "null"])
def test_a_damaged_file_is_evaluated_anew_and_replaced(
    damage: str, model: nn.Module, evaluated: list[int], tmp_path: Path
) -> None:
    file = tmp_path / "known.json"
    file.write_text(damage)
    measure_or_reuse(model, Samples(), file)
    assert evaluated == [70]
    assert len(json.loads(file.read_text())["hits"]) == 70
    measure_or_reuse(model, Samples(), file)
    assert evaluated == [70]


@pytest.mark.parametrize("field", ["", "outputs", "hits", "predictions", "seconds", "cross_entropy", "samples"])
def test_a_note_of_any_form_counts_as_none(field: str, model: nn.Module, evaluated: list[int], tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    measure_or_reuse(model, Samples(), file)
    good = json.loads(file.read_text())
    values = ["{}", "[]", "7", '"x"', "1" + "0" * 400, "[[1], [1, 2]]", "[" * 60 + "]" * 60, "[" * 990 + "]" * 990, "{"]
    for value in values:
        text = json.dumps({**good, field: "HERE"}).replace('"HERE"', value) if field else value
        file.write_text(text)
        found = earlier_evaluation._read(file, good["outputs"])
        assert found is None or field in ("seconds", "cross_entropy", "samples"), value[:20]
