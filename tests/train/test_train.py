"""Training against descent written out by hand, and against runs that nobody killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from zoo import ZooError
from zoo.train import Recipe, train
from zoo.train import loop as train_module

RECIPE = Recipe(epochs=3, lr=0.2, batch_size=8, weight_decay=1e-3, label_smoothing=0.1, warmup=1, floor=0.01)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Samples(Dataset):
    """Points and their class, varied by the epoch; `at` maps a number of reads to something that then happens."""

    def __init__(self, size: int = 33, at: dict | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(size, 5, generator=generator)
        self.y = (self.x[:, 0] > 0).long() + (self.x[:, 1] > 0).long()
        self.at, self.read, self.epoch, self.epochs = at or {}, [], 0, []

    def __len__(self) -> int:
        return len(self.x)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.epochs.append(epoch)

    def __getitem__(self, index: int):
        self.read.append(index)
        if len(self.read) in self.at:
            self.at[len(self.read)]()
        return self.x[index] * (1 + self.epoch / 10), int(self.y[index])


def test_equals_descent_written_out_by_hand():
    samples = Samples()
    trained = train(network(), samples, RECIPE, seed=4)
    read = samples.read[1:]  # the first read asks for the shape only
    assert samples.epochs == [0, 1, 2]

    by_hand = network().train()
    speed = [torch.zeros_like(p) for p in by_hand.parameters()]
    torch.manual_seed(4)  # dropout
    for step in range(12):  # 4 batches of 8; sample 33 of each epoch would be alone
        epoch = step // 4
        batch = read[step * 8 : step * 8 + 8]
        logits = by_hand(samples.x[batch] * (1 + epoch / 10))
        target = 0.9 * nn.functional.one_hot(samples.y[batch], 3) + 0.1 / 3
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        cosine = 0.01 + (0.2 - 0.01) * (1 + torch.cos(torch.tensor((step - 4) / 8 * torch.pi)).item()) / 2
        rate = 0.2 * (step + 1) / 4 if step < 4 else cosine
        with torch.no_grad():
            for p, v, g in zip(by_hand.parameters(), speed, gradients, strict=True):
                v.mul_(0.9).add_(g + 1e-3 * p)
                p.sub_(rate * v)
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(tensor, by_hand.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)
    assert not trained.training


def test_each_epoch_reads_every_sample_once_in_an_order_of_seed_and_epoch():
    orders = {}
    for seed in (0, 1):
        samples = Samples(32)
        train(network(), samples, RECIPE, seed=seed)
        assert len(samples.read) == 1 + 3 * 32
        for epoch in range(3):
            orders[seed, epoch] = samples.read[1 + 32 * epoch : 33 + 32 * epoch]
    assert all(sorted(order) == list(range(32)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 6


def test_the_rate_is_pytorchs_cosine_after_the_warm_up():
    recipe = Recipe(epochs=6, lr=0.5, batch_size=2, warmup=2, floor=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * 5, eta_min=0.1)
    assert [recipe.lr_at(step, 5) for step in range(10)] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    for step in range(10, 30):
        assert recipe.lr_at(step, 5) == pytest.approx(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()
    assert Recipe(epochs=1, lr=0.1, batch_size=2, warmup=5).lr_at(0, 1) == pytest.approx(0.1)  # no room to warm up


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # newer Pythons warn of fork beside threads
def test_loader_processes_change_nothing():
    assert same(train(network(), Samples(), RECIPE, workers=2), train(network(), Samples(), RECIPE))


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(9)
    expected = torch.rand(3)
    model = network()
    torch.manual_seed(9)
    train(model, Samples(), RECIPE)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_the_run_goes_on_to_the_same_weights(tmp_path, number):
    state, log = tmp_path / "run.pt", tmp_path / "log.jsonl"
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    samples = Samples(at={1 + 32 + 13: lambda: os.kill(os.getpid(), number)})
    with pytest.raises(ZooError, match=r"stopped in epoch 2 of 3.*the same command goes on"):
        train(network(), samples, RECIPE, checkpoint=state, log=log)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    again = Samples()
    resumed = train(network(seed=7), again, RECIPE, checkpoint=state, log=log)  # its own first weights do not matter
    assert len(again.read) == 1 + 2 * 8 + 32  # two batches of epoch 2 were done before
    assert same(resumed, train(network(), Samples(), RECIPE))
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2, 3]
    assert same(train(network(), again, RECIPE, checkpoint=state), resumed)  # a finished run is not run again
    assert len(again.read) == 1 + 2 * 8 + 32 + 1


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from test_train import RECIPE, Samples, network, same
    from zoo.train import loop as module

    module.SAVE_SECONDS = 0.0  # save after every step
    path, when = Path(sys.argv[1]), sys.argv[2]
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    at = {{int(when): die}} if when.isdigit() else {{}}
    if when == "saving":
        rename, count = os.replace, [0]
        def replace(*names):
            count[0] += 1
            if count[0] == 4:
                die()
            rename(*names)
        os.replace = replace
    resumed = module.train(network(), Samples(at=at), RECIPE, checkpoint=path)
    print(same(resumed, module.train(network(), Samples(), RECIPE)))
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_ends_with_the_same_weights(tmp_path):
    script = textwrap.dedent(KILLED).format(tests=os.path.dirname(__file__))

    def run(when: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", script, str(tmp_path / "run.pt"), when]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    for when in ("20", "saving"):  # in the third batch; then while the state after another few steps is renamed
        assert run(when).returncode == -signal.SIGKILL
        saved = torch.load(tmp_path / "run.pt", weights_only=True)["state"]
        assert (saved["epoch"], saved["step"]) == {"20": (0, 2), "saving": (1, 1)}[when]
    finished = run("never")
    assert finished.stdout == "True\n", finished.stderr


def test_progress_is_one_line_per_epoch_off_a_terminal_and_nothing_unless_asked(capsys):
    train(network(), Samples(), RECIPE, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[:2] for line in err.splitlines()] == [["epoch", f"{i}/3"] for i in (1, 2, 3)]
    train(network(), Samples(), RECIPE)
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_is_not_finite_says_what_to_lower_and_is_not_saved(tmp_path):
    state = tmp_path / "run.pt"
    with pytest.raises(ZooError, match=r"no longer finite in epoch .*lower the learning rate"):
        train(nn.Linear(5, 3), Samples(), Recipe(epochs=40, lr=1e30, batch_size=8), checkpoint=state)
    assert not state.exists()


def test_running_statistics_that_are_not_finite_end_the_run_before_it_is_saved(tmp_path):
    """The loss of training does not read them. Other buffers may hold infinity."""
    state = tmp_path / "run.pt"
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model.register_buffer("mask", torch.tensor(float("-inf")))
    train(model, Samples(), RECIPE, checkpoint=state)
    state.unlink()
    model[1].running_var[3] = float("nan")
    with pytest.raises(ZooError, match="running statistics of 1 are NaN or infinite after epoch 1: lower"):
        train(model, Samples(), RECIPE, checkpoint=state)
    assert not state.exists()


def test_what_cannot_be_trained():
    x, y = torch.randn(6, 5), torch.zeros(6, dtype=torch.long)
    with pytest.raises(ZooError, match="1 training samples are too few"):
        train(network(), TensorDataset(x[:1], y[:1]), RECIPE)
    x[4, 1] = float("inf")
    with pytest.raises(ZooError, match="sample 4 of the data holds NaN or infinite"):
        train(network(), TensorDataset(x, y), RECIPE)
    with pytest.raises(ZooError, match="label 3, but the network has 3 outputs"):
        train(network(), TensorDataset(torch.randn(6, 5), y + 3), RECIPE)


def test_a_saved_run_of_something_else_is_refused_and_kept(tmp_path):
    state = tmp_path / "run.pt"
    train(network(), Samples(), RECIPE, checkpoint=state)
    content = state.read_bytes()
    for arguments, message in (
        ((network(), Samples(), Recipe(epochs=4, lr=0.2, batch_size=8)), "another recipe"),
        ((network(), Samples(20), RECIPE), "another samples"),
        ((nn.Linear(5, 3), Samples(), RECIPE), "another shapes"),
    ):
        with pytest.raises(ZooError, match=message):
            train(*arguments, checkpoint=state)
    with pytest.raises(ZooError, match="another seed"):
        train(network(), Samples(), RECIPE, seed=1, checkpoint=state)
    assert state.read_bytes() == content
    state.write_bytes(content[:1000])
    with pytest.raises(ZooError, match="cannot be read as a saved run"):
        train(network(), Samples(), RECIPE, checkpoint=state)


def test_a_state_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ZooError, match="cannot write"):
        train(network(), Samples(), RECIPE, checkpoint=tmp_path / "file" / "run.pt")


def test_images_train_to_the_same_weights_in_the_channels_last_format():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, 8, 8, generator=generator), torch.arange(24) % 3
    recipe = Recipe(epochs=2, lr=0.05, batch_size=8)

    class Flat(nn.Module):  # inputs of other than three axes stay in the format they have
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.view(-1, 3, 8, 8))

    def convolution() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))

    last = train(convolution(), TensorDataset(x, y), recipe)
    first = train(Flat(convolution()), TensorDataset(x.flatten(1), y), recipe)
    for a, b in zip(last.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert last[0].weight.is_contiguous()


def test_recipes():
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"batch_size": 1}):
        with pytest.raises(ZooError):
            Recipe(**{"epochs": 1, "lr": 0.1, "batch_size": 2, **wrong})
    assert train_module.SAVE_SECONDS == 60
