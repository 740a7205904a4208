"""A criterion, a data set and a network from outside the package, by their names on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.utils import plugins

PLUGIN = Path(__file__).parents[1] / "support" / "my_plugin.py"


def zoo(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ZOO_HOME": str(home), "ZOO_PLUGINS": str(PLUGIN)}
    command = [sys.executable, "-m", "zoo", *map(str, words), "--device", "cpu", "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.slow  # the quick tests run the plug-in of CONTRIBUTING.md
def test_a_network_a_data_set_and_a_criterion_of_a_plugin_are_used_by_name(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.ini"
    recipe.write_text("[train]\nepochs = 3\nlr = 0.1\nbatch_size = 8\n")
    trained = zoo(tmp_path, "train", "tiny", "--dataset", "blobs", "--recipe", recipe)
    assert trained.returncode == 0, trained.stderr
    card = json.loads(trained.stdout)["card"]
    assert (card["name"], card["accuracy"]["total"]) == ("tiny.blobs", 40)
    pruned = zoo(tmp_path, "reprune", "tiny", "--target-macs", "0.6", "--method", "coin", "--samples", "16")
    assert pruned.returncode == 0, pruned.stderr
    result = json.loads(pruned.stdout)
    assert result["card"]["recipe"]["method"] == "coin"
    assert 0 < result["card"]["widths"]["hidden"] <= 0.6 * 12


def test_plugins_that_cannot_be_imported_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugins.load_plugins.cache_clear()
    for name, message in (
        ("no_such_module", "plugin no_such_module of ZOO_PLUGINS cannot be imported: ModuleNotFoundError"),
        (str(tmp_path / "none.py"), "none.py of ZOO_PLUGINS cannot be imported: FileNotFoundError"),
    ):
        monkeypatch.setenv("ZOO_PLUGINS", name)
        with pytest.raises(ZooError, match=message):
            plugins.load_plugins()
    monkeypatch.setenv("ZOO_PLUGINS", "json, math")
    plugins.load_plugins()
    plugins.load_plugins.cache_clear()
