"""The rate of section 2.3: how the local discrepancy of a two-hidden-layer network falls with the neurons kept.

    python benchmarks/rate.py [--json]

A network with 100 + 100 neurons learns a simulated regression; its first hidden layer is pruned to n = 1 ... 90
neurons by local imitation (without and with refined weights) and by greedy forward selection. The script prints D(n)
as a fraction of the target's energy, and straight lines fitted to log D over n (an exponential rate: slope per
neuron) and to log D over log n (a polynomial rate: the exponent), each with its R^2: mean and range of the slopes
over five seeds.
"""

from __future__ import annotations

import json
import statistics

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.models import groups_of, mlp
from zoo.prune.search import forward_selection, local_discrepancy, local_imitation
from zoo.prune.statistics import gram_matrix

FITTED = range(5, 81)
SHOWN = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90)


def trained_network(seed: int) -> tuple[torch.nn.Module, Tensor]:
    """A network trained by regression on y = sin of a random projection + noise, and its inputs (1000, 10)."""
    torch.manual_seed(seed)
    x = torch.randn(1000, 10)
    y = torch.sin(x @ torch.randn(10, 1)) + 0.1 * torch.randn(1000, 1)
    model = mlp(in_features=10, num_classes=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(2000):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    return model.eval(), x


def fit_line(x: list[float], y: list[float]) -> tuple[float, float]:
    """(slope, R^2) of the least-squares line."""
    slope, _ = statistics.linear_regression(x, y)
    return slope, statistics.correlation(x, y) ** 2


@click.command()
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool) -> None:
    runs_of: dict[str, list[dict]] = {}
    for seed in range(5):
        model, x = trained_network(seed)
        with torch.no_grad():
            G, _ = gram_matrix(groups_of(model)[0], [lambda model=model, x=x: model(x)])
        paths = {"local": local_imitation(G, refine=False), "local, refined": local_imitation(G),
                 "gfs": forward_selection(G)}  # fmt: skip
        for name, path in paths.items():
            D = {n: float(local_discrepancy(G, path.scale(n) / 100) / G.sum()) for n in {*FITTED, *SHOWN}}
            logs = [torch.tensor(max(D[n], 1e-16)).log().item() for n in FITTED]
            runs_of.setdefault(name, []).append({
                "D": {n: D[n] for n in SHOWN},
                "per_neuron": fit_line([float(n) for n in FITTED], logs),
                "exponent": fit_line([torch.tensor(float(n)).log().item() for n in FITTED], logs),
            })  # fmt: skip
    if as_json:
        click.echo(json.dumps(runs_of))
        return
    click.echo("n".rjust(4) + "".join(name.rjust(18) for name in runs_of) + "   (median over 5 seeds)")
    for n in SHOWN:
        row = [statistics.median(run["D"][n] for run in runs) for runs in runs_of.values()]
        click.echo(f"{n:4}" + "".join(f"{value:18.2e}" for value in row))
    for name, runs in runs_of.items():
        for kind, words in (("per_neuron", "log D per neuron"), ("exponent", "log D per log n")):
            slopes = [run[kind][0] for run in runs]
            fits = [run[kind][1] for run in runs]
            click.echo(f"{name}: {words} {statistics.mean(slopes):+.3f} (spread {min(slopes):+.3f} to "
                       f"{max(slopes):+.3f}), R^2 {statistics.mean(fits):.3f}")


if __name__ == "__main__":
    main()
