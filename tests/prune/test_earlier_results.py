"""What the version before samples were held out and widths were rounded gave, written down then: with its settings the
same networks come out, and its files go on."""

import json
from dataclasses import replace

import pytest
import torch
from exact_search import EXACT, exact
from known_network import KnownNetwork, known_samples

from zoo.prune import PAPER, Budget, Options, Runtime, prune

FOUR = Options(search=replace(EXACT, round_to=4))
# name: (arguments, widths, gaps of the groups, sum of the absolute outputs, fingerprints of the files)
RUNS = {
    "paper": (
        {"eps": 0.05, "options": Options(PAPER)}, (3, 3), (0.02289064623740988, 0.0037176053273263467),
        66.14578537087492, {"journal": "c97a9d16c961f9e2"},
    ),
    "paper, a smaller eps": (
        {"eps": 0.005, "options": Options(PAPER)}, (13, 8), (-0.006245626876277173, -0.0029432771412878016),
        84.95445077461109, {"journal": "3a88b76f19c11b77"},
    ),
    "combined": (
        {"eps": 0.02, "method": "combined", "options": exact()}, (4, 4), (0.009975855893179163, -0.010179343673760657),
        73.62591632377823, {"journal": "bc64c46cc5375b62"},
    ),
    "local": (
        {"eps": 0.02, "method": "local", "options": exact()}, (4, 4), (0.009975855893179163, -0.010179343673760657),
        73.62591632377823, {"journal": "3e5f287ba1958635"},
    ),
    "widths": (
        {"widths": {"a": 9}, "method": "l1"}, (9, 13), (0.030214166793478714, 0.0),
        78.04194283485413, {"journal": "90b8baed807535d0"},
    ),
    "budget": (
        {"budget": Budget(macs=0.6), "options": exact()}, (11, 13), (0.0038876642818683484, 0.0),
        85.1077989936253, {"journal": "ebfe275a09ef2c80", "known.json": "6ff86f6e41fd0f2d"},
    ),
    "budget, multiples of 4": (
        {"budget": Budget(macs=0.6), "options": FOUR}, (8, 13), (0.005723416244066893, 0.0),
        84.6780765522266, {"journal": "582edaf2169e94a1", "known.json": "6ff86f6e41fd0f2d"},
    ),
    "one eps": (
        {"budget": Budget(macs=0.6), "method": "uniform", "options": exact()}, (12, 8),
        (-0.03255803950967496, 0.05770049075401643), 55.70701324939728,
        {"known.eps.json": "ca4b77cc65d62892", "journal.eps-0.02": "48f0a6b3f0e9a552"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_settings_of_then_give_the_networks_and_the_fingerprints_of_then(name, tmp_path):
    arguments, widths, gaps, outputs, fingerprints = RUNS[name]
    files = Runtime(resume_file=tmp_path / "journal", cache_file=tmp_path / "known.json")
    x, labels = known_samples()
    small, report = prune(KnownNetwork().eval(), (x, labels), runtime=files, **arguments)
    assert small.widths == dict(zip("ab", widths, strict=True))
    assert [group.gap for group in report.groups] == pytest.approx(gaps, rel=1e-6)
    with torch.no_grad():
        assert float(small(x).abs().sum()) == pytest.approx(outputs, rel=1e-6)
    found = {file: json.loads((tmp_path / file).read_text())["fingerprint"] for file in fingerprints}
    assert {file: text[:16] for file, text in found.items()} == fingerprints


def test_curves_serve_any_rounding_and_given_widths_any_judgement(tmp_path):
    """Neither depends on how gaps are judged, or on which widths are allowed."""
    data, files = known_samples(), Runtime(cache_file=tmp_path / "known.json")
    model, goal = KnownNetwork().eval(), {"budget": Budget(macs=0.6), "runtime": files}
    assert prune(model, data, options=exact(), **goal)[1].reused == []
    for options in (FOUR, Options()):
        assert prune(model, data, options=options, **goal)[1].reused == ["a", "b"]
    resume = Runtime(resume_file=tmp_path / "journal")
    first, again = (
        prune(model, data, widths={"a": 9}, method="l1", options=options, runtime=resume)[0]
        for options in (exact(), Options())
    )
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
