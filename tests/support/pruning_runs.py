"""Pruning runs that several processes and one have to do alike."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from exact_search import EXACT
from torch import Tensor, nn

from zoo.models import build
from zoo.prune import PAPER, PLAIN, Budget, Options, Repair, Runtime, Search, prune

HELD_OUT = Search(holdout=0.35, round_to=2)  # 14 judge, 27 choose: the last batch of each part is not full
M, BATCH = 41, 8  # the last batch has a single sample: other processes than the first have none of it
RUNS: dict[str, dict[str, Any]] = {
    "combined": {
        "eps": 0.05, "method": "combined", "search": replace(EXACT, exhaustive_below=3, topk_candidates=3),
    },
    "paper": {"eps": 0.1, "method": "combined", "search": replace(PAPER, exhaustive_below=3, topk_candidates=2)},
    "no labels": {"eps": 0.05, "method": "local", "discrepancy": "squared_error"},
    "weighted": {"eps": 0.05, "method": "local", "repair": Repair(label_weight=0.5)},
    "gfs": {"eps": 0.1, "method": "gfs"},
    "uniform": {"eps": 0.1, "method": "uniform"},
    "random": {"eps": 0.1, "method": "random"},
    "taylor": {"budget": Budget(macs=0.6), "method": "taylor"},
    "repaired": {"budget": Budget(macs=0.5), "method": "repaired"},
    "signs": {"budget": Budget(parameters=0.5), "method": "repaired", "discrepancy": "squared_error"},
    "last steps": {"eps": 0.1, "method": "l1", "repair": Repair(recalibrate=True, distil_epochs=2, weighting="none")},
    "plain": {"widths": {}, "method": "fpgm", "repair": PLAIN},
    "held out": {"eps": 0.1, "search": HELD_OUT},
    "held out, combined": {
        "eps": 0.1, "method": "combined", "search": replace(HELD_OUT, exhaustive_below=3, topk_candidates=3),
    },
    "held out, uniform": {"eps": 0.1, "method": "uniform", "search": HELD_OUT},
}  # fields of `Options` stand beside the arguments of `prune`


def vgg() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A small VGG-11, and M images with labels."""
    torch.manual_seed(0)
    dense = build("vgg11", num_classes=5).widths  # type: ignore[attr-defined]
    model = build("vgg11", num_classes=5, widths={name: 6 + index for index, name in enumerate(dense)})
    return _lively(model, torch.randn(M, 3, 32, 32, dtype=torch.float64))


def dgcnn() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A small DGCNN, and M clouds with labels."""
    torch.manual_seed(1)
    widths = {"edge1": 6, "edge2": 6, "edge3": 7, "edge4": 8, "conv5": 12, "linear1": 10, "linear2": 8}
    model = build("dgcnn", num_classes=4, widths=widths, k=4)
    return _lively(model, torch.randn(M, 3, 16, dtype=torch.float64))


NETWORKS = {"vgg": vgg, "dgcnn": dgcnn}


def _lively(model: nn.Module, x: Tensor) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The model in float64 with weights that keep differences between samples, and labels that are mostly its own."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.1)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
        if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    model.double().eval()
    with torch.no_grad():
        labels = model(x).argmax(1)
    labels[::5] = 0
    return model, (x, labels)


def arguments(name: str, folder: Path | None = None, **more: Any) -> dict[str, Any]:
    """The arguments of `prune` for one of the runs; with a folder its files lie there."""
    given = {**RUNS[name], **more}
    options = {key: given.pop(key) for key in ("search", "repair", "discrepancy") if key in given}
    files = {}
    if folder is not None:
        files = {"resume_file": folder / f"{name}.json", "cache_file": folder / f"{name}.known.json"}
    return {**given, "options": Options(batch_size=BATCH, **{"search": EXACT, **options}), "runtime": Runtime(**files)}


def results(network: str, runs: list[str], folder: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each run gives."""
    for name in runs:
        model, data = NETWORKS[network]()
        given = arguments(name, folder)
        if "widths" in given:
            given["widths"] = dict.fromkeys(model.widths, 4)  # type: ignore[arg-type]
        small, report = prune(model, data, **given)
        x = data[0][:8]
        with torch.no_grad():
            logits = small(x)
        yield name, {
            "widths": dict(small.widths),  # type: ignore[arg-type]
            "winners": [(row.name, row.after, row.winner, row.local, row.global_) for row in report.groups],
            "gaps": [row.gap for row in report.groups],
            "steps": [(step.name, step.gap) for step in report.steps],
            "logits": logits, "state": small.state_dict(),
        }  # fmt: skip
