"""The convex problem of local imitation on a fixed set of neurons: the weights with the smallest local discrepancy."""

from __future__ import annotations

import torch
from torch import Tensor

# The largest duality gap of the solution, as a fraction of the target's energy.
MAX_DUALITY_GAP = 1e-9


def best_weights(G: Tensor, inside: Tensor) -> Tensor:
    """Weights a (N,) >= 0 with sum 1, zero outside `inside` (N,) bool, that minimise the local discrepancy

        D(a) = N^2 a'Ga - 2 N a'G1 + 1'G1

    G (N, N) is float64 and positive semi-definite, and 1'G1 is the target's energy. In terms of s = N a the method is
    that of active sets (Lawson and Hanson 1974, chapter 23, with the sum as an additional constraint): on a set of
    neurons the problem without signs is a linear system. Neurons whose weight would become negative leave the set, and
    the neuron with the largest multiplier of the wrong sign enters it, until the duality gap, 2 N times that
    multiplier, is below MAX_DUALITY_GAP of the energy. Where G is singular a small ridge is added to its diagonal.
    """
    N = len(G)
    G1 = G.sum(1)
    tolerance = MAX_DUALITY_GAP * float(G1.sum()) / (2 * N)
    active = inside.clone()
    s = torch.where(active, N / active.sum(), 0.0).to(G)
    # At first all neurons with a negative weight leave at once, which takes few rounds but may remove too many.
    solution, multiplier = _solve_on(G, G1, active)
    while bool((solution[active] <= 0).any()) and bool((solution > 0).any()):
        active &= solution > 0
        solution, multiplier = _solve_on(G, G1, active)
    if bool((solution[active] > 0).all()):
        s = solution
    else:
        active = inside.clone()
        solution, multiplier = _solve_on(G, G1, active)
    least = float("inf")
    for _ in range(10 * N):
        while bool((solution[active] <= 0).any()):  # move towards the solution until a weight is 0; that neuron leaves
            blocking = active & (solution <= 0)
            step = (s[blocking] / (s[blocking] - solution[blocking])).nan_to_num(nan=0.0).min()
            s = s + step * (solution - s)
            active &= ~(blocking & (s <= 1e-14 * N))
            s = torch.where(active, s, 0.0)
            solution, multiplier = _solve_on(G, G1, active)
        s = solution
        loss = float((s - 1) @ G @ (s - 1))
        if not loss < least:
            break
        best, least = s, loss
        violation = (G1 + multiplier - G @ s).masked_fill(active | ~inside, -torch.inf)
        if not float(violation.max()) > tolerance:
            break
        active[violation.argmax()] = True
        solution, multiplier = _solve_on(G, G1, active)
    return best / best.sum()


def _solve_on(G: Tensor, G1: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """s (N,) that minimises s'Gs - 2 s'G1 with sum N on the `active` neurons, of any sign there and 0 elsewhere; and
    the Lagrange multiplier of the sum."""
    N = len(G)
    index = active.nonzero().squeeze(1)
    block = G[index][:, index]
    ridge = 1e-12 * float(block.diagonal().mean()) + torch.finfo(G.dtype).tiny
    while True:
        factor, failed = torch.linalg.cholesky_ex(block + ridge * torch.eye(len(index), dtype=G.dtype))
        if not int(failed):
            break
        ridge *= 10
    sides = torch.stack([G1[index], torch.ones_like(G1[index])], 1)
    u, v = torch.cholesky_solve(sides, factor).unbind(1)
    multiplier = (N - u.sum()) / v.sum()
    return torch.zeros_like(G1).index_put((index,), u + multiplier * v), multiplier
