"""`zoo predict`: the most probable classes of single files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import display
from zoo.cards import Card
from zoo.datasets.folder import check_file
from zoo.errors import ZooError
from zoo.workflows.checks import find_card

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 32


@dataclass(frozen=True)
class Guess:
    """One class of a network: its name (`class 3` where names are not known), its output, and its probability."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class PredictionResult:
    """What a network says about files: the most probable classes of each, or why a file cannot be read."""

    card: Card
    guesses: dict[Path, tuple[Guess, ...]]
    errors: dict[Path, str]

    def table(self) -> str:
        """One line for each file that was read, with its classes and their probabilities in per cent."""
        return display.table(
            [
                (str(path), *(f"{guess.name} {100 * guess.probability:.1f} %" for guess in guesses))
                for path, guesses in self.guesses.items()
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        read = [{"file": str(path), "classes": [vars(g) for g in guesses]} for path, guesses in self.guesses.items()]
        return {
            "name": self.card.name,
            "files": read + [{"file": str(path), "error": error} for path, error in self.errors.items()],
        }


def predict_files(
    name: str, files: Sequence[Path], *, top: int = 3, device: str | None = None, dataset: str | None = None,
    mirror: Sequence[str] | None = None,
) -> PredictionResult:  # fmt: skip
    """The most probable classes of image, mesh and cloud files, by the network of an entry.

    Files are prepared as the entry's test samples are (`zoo.datasets.read_sample`): one that cannot be is an error of
    the result, and the others are predicted all the same.

    name     an entry's, or the path of a checkpoint
    top      the number of classes
    device   as of `RunOptions`
    dataset  the data set of a network whose file or card does not say it

    Raises ZooError for an unknown entry, a network for neither images nor clouds, and outputs that are not finite.
    """
    found = find_card(name, mirror or ())  # an unknown name, or files that are not there, need not wait for torch
    if found is not None and (refused := _refused(found, files)).keys() >= {*files}:
        return PredictionResult(found, {}, refused)
    import torch

    from zoo import checkpoint
    from zoo.datasets import read_sample
    from zoo.file_entry import find_entry
    from zoo.store import reading
    from zoo.workflows.data_spec import DataSpec
    from zoo.workflows.run import choose_device

    target = choose_device(device)
    model, card = reading(
        lambda: find_entry(name, mirror=mirror, dataset=dataset),
        lambda path, card: (checkpoint.load(path, device=target, card=card), card),
    )
    errors, spec = _refused(card, files), DataSpec.of(card)
    samples: dict[Path, Tensor] = {}
    guesses: dict[Path, tuple[Guess, ...]] = {}

    def flush() -> None:
        if samples:
            with torch.inference_mode():
                probabilities = model(torch.stack(list(samples.values())).to(target)).float().softmax(1).cpu()
            if not torch.isfinite(probabilities).all():
                raise ZooError(f"the outputs of {card.name} are NaN or infinite: its weights are damaged")
            for file, row in zip(samples, probabilities, strict=True):
                guesses[file] = _top(row, model.classes, top)  # type: ignore[arg-type]  # of zoo.checkpoint.load
            samples.clear()

    for file in dict.fromkeys(file for file in files if file not in errors):
        try:
            samples[file] = read_sample(file, card.dataset, card.sample_shape, mean=spec.mean, std=spec.std)
        except ZooError as error:
            errors[file] = str(error)
        if len(samples) == _BATCH:
            flush()
    flush()
    return PredictionResult(card, guesses, {file: errors[file] for file in dict.fromkeys(files) if file in errors})


def _refused(card: Card, files: Sequence[Path]) -> dict[Path, str]:
    """The files that cannot be samples of the entry, as far as their names tell, and why."""
    shape, refused = card.sample_shape, {}
    if len(shape) not in (2, 3) or shape[0] != 3 or len(set(shape[1:])) > 1:
        raise ZooError(f"{card.name} takes samples of {' x '.join(map(str, shape))}: neither images nor clouds")
    for file in files:
        try:
            check_file(file, shape)
        except ZooError as error:
            refused[file] = str(error)
    return refused


def _top(probabilities: Tensor, classes: Sequence[str] | None, top: int) -> tuple[Guess, ...]:
    values, indices = probabilities.topk(min(top, len(probabilities)))
    return tuple(
        Guess(classes[index] if classes else f"class {index}", index, value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    )
