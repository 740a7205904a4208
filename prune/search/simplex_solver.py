"""The convex problem of local imitation on given neurons, solved: the best weights when no other neuron may come in."""

from __future__ import annotations

import torch
from torch import Tensor

# The best weights are found to within this part of the target's energy.
SETTLED = 1e-9


def best_weights(G: Tensor, inside: Tensor) -> Tensor:
    """Weights a (N,) >= 0 with sum 1, zero outside `inside` (N,) bool, at which D is smallest.

    G (N, N) float64, positive semi-definite, with 1'G1 the target's energy. An active-set method (Lawson and Hanson
    1974, chapter 23, with the sum as one constraint more): on a set of neurons the problem without signs is a linear
    system. Neurons whose weight would turn negative leave the set, and the neuron that the multipliers ask for most
    comes back, until the duality gap, 2 N times the largest multiplier of the wrong sign, is below `SETTLED` of the
    energy. Where G is singular a trace of its diagonal is added; the result is the best that rounding allows.
    """
    N = len(G)
    aim = G.sum(1)
    enough = SETTLED * float(aim.sum()) / (2 * N)
    use = inside.clone()
    s = torch.where(use, N / use.sum(), 0.0).to(G)
    # At first all that turn negative leave at once, which takes few rounds and may leave too many.
    solved, pull = _on(G, aim, use)
    while bool((solved[use] <= 0).any()) and bool((solved > 0).any()):
        use &= solved > 0
        solved, pull = _on(G, aim, use)
    if bool((solved[use] > 0).all()):
        s = solved
    else:
        use = inside.clone()
        solved, pull = _on(G, aim, use)
    least = float("inf")
    for _ in range(10 * N):
        while bool((solved[use] <= 0).any()):  # walk towards the solution until a weight is 0; that neuron leaves
            stop = use & (solved <= 0)
            part = (s[stop] / (s[stop] - solved[stop])).nan_to_num(nan=0.0).min()
            s = s + part * (solved - s)
            use &= ~(stop & (s <= 1e-14 * N))
            s = torch.where(use, s, 0.0)
            solved, pull = _on(G, aim, use)
        s = solved
        loss = float((s - 1) @ G @ (s - 1))
        if not loss < least:
            break
        best, least = s, loss
        wanted = (aim + pull - G @ s).masked_fill(use | ~inside, -torch.inf)
        if not float(wanted.max()) > enough:
            break
        use[wanted.argmax()] = True
        solved, pull = _on(G, aim, use)
    return best / best.sum()


def _on(G: Tensor, aim: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """s (N,) that minimises s'Gs - 2 s'aim with sum N and no signs on the neurons `use`, and the sum's multiplier."""
    N = len(G)
    index = use.nonzero().squeeze(1)
    block = G[index][:, index]
    ridge = 1e-12 * float(block.diagonal().mean()) + torch.finfo(G.dtype).tiny
    while True:
        factor, failed = torch.linalg.cholesky_ex(block + ridge * torch.eye(len(index), dtype=G.dtype))
        if not int(failed):
            break
        ridge *= 10
    sides = torch.stack([aim[index], torch.ones_like(aim[index])], 1)
    u, v = torch.cholesky_solve(sides, factor).unbind(1)
    pull = (N - u.sum()) / v.sum()
    return torch.zeros_like(aim).index_put((index,), u + pull * v), pull
