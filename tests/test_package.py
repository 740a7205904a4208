"""The package as it is installed: complete, away from the checkout, and beside other people's packages."""

import configparser
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.cards import Card, File
from zoo.cards.licences import Licences

ROOT = Path(__file__).parent.parent
TREES = ("zoo", "models", "datasets", "prune")


def packages() -> dict[str, str]:
    """Package name -> folder, as setup.cfg states them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = config["options"]["packages"].split()
    pairs = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert sorted(named) == sorted(pairs)
    return pairs


def test_setup_cfg_lists_every_package_of_the_tree() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for top in TREES for path in (ROOT / top).rglob("*.py")}
    assert folders == set(packages().values())


def test_setup_cfg_lists_every_data_file_of_the_tree() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    stated = config["options.package_data"]
    folders = packages()
    patterns = [(ROOT / folders[package], pattern) for package in stated for pattern in stated[package].split()]
    covered = {path for folder, pattern in patterns for path in folder.glob(pattern)}
    ignored = (".py", ".pyc")
    found = {p for top in TREES for p in (ROOT / top).rglob("*") if p.is_file() and p.suffix not in ignored}
    missing = {p for p in found if not p.name.startswith(".")} - covered
    assert not missing


def pip(*args: str) -> "subprocess.CompletedProcess[str]":
    quiet = ("-q", "--disable-pip-version-check", "--no-input")
    return subprocess.run([sys.executable, "-m", "pip", *args, *quiet], capture_output=True, text=True)


def entry(folder: Path) -> Card:
    """An entry in a folder, for a tree that ships one."""
    content = b"no network, and nobody loads it"
    sha256 = hashlib.sha256(content).hexdigest()
    card = Card(
        name="planted.shapes",
        arch="mlp",
        dataset="shapes",
        num_classes=3,
        sample_shape=(5,),
        widths={"hidden1": 1},
        recipe={"command": "zoo train mlp"},
        parameters=1,
        file=File(name=f"planted.shapes-{sha256[:8]}.safetensors", size=len(content), sha256=sha256),
        licences=Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="no parent"),
    )
    folder.mkdir(exist_ok=True)
    (folder / "planted.shapes.json").write_text(card.to_json())
    (folder / card.saved.name).write_bytes(content)
    return card


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree (building leaves things behind) that ships one entry more."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    for name in TREES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    entry(copy / "zoo" / "checkpoints")
    options = ["--no-deps", "--wheel-dir", str(copy / "dist"), str(copy)]
    # What pyproject.toml asks for may be installed already; only otherwise is it fetched.
    there = {found.version for found in importlib.metadata.distributions(name="setuptools")}
    if any(int(version.split(".")[0]) >= 77 for version in there):
        options.append("--no-build-isolation")
    built = pip("wheel", *options)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (copy / "dist").glob("*.whl")
    return found


def test_the_wheel_holds_zoo_and_nothing_else_at_its_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"zoo"}
    for package, folder in packages().items():
        inside = package.replace(".", "/")
        for path in (ROOT / folder).glob("*.py"):
            assert f"{inside}/{path.name}" in names
    assert "zoo/py.typed" in names


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages in which others' `datasets` and `models` are installed first and then the wheel."""
    folder = tmp_path_factory.mktemp("site")
    for other in ("datasets", "models"):
        (folder / other).mkdir()
        (folder / other / "__init__.py").write_text(f"owner = 'other {other}'\n")
    installed = pip("install", "--no-deps", "--target", str(folder), str(wheel))
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "already exists" not in installed.stderr
    return folder


@pytest.fixture
def python(site: Path, tmp_path: Path) -> Callable[..., str]:
    """Run Python away from the checkout with the site folder alone and give back what it prints."""

    def run(*args: str) -> str:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ZOO_", "PYTHON"))}
        environment = {**kept, "PYTHONPATH": str(site), "ZOO_HOME": str(tmp_path / "home")}
        result = subprocess.run(args, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_the_installed_package_finds_its_entries(python: Callable[..., str], site: Path) -> None:
    assert Path(python(sys.executable, "-c", "import zoo; print(zoo.__file__)").strip()).is_relative_to(site)
    listed = {card["name"] for card in json.loads(python(sys.executable, "-m", "zoo", "list", "--json"))}
    shipped = {path.stem for path in (ROOT / "zoo" / "checkpoints").glob("*.json")}
    assert listed == shipped | {"planted.shapes"}
    path = Path(python(sys.executable, "-m", "zoo", "download", "planted").strip())
    assert path.parent == site / "zoo" / "checkpoints"
    assert path.read_bytes() == b"no network, and nobody loads it"


def test_the_installed_package_finds_its_recipes(python: Callable[..., str]) -> None:
    code = "from zoo.train.recipe import recipe_for; print(recipe_for('finetune', 'resnet34', 'imagenet').lr)"
    assert python(sys.executable, "-c", code) == "0.001\n"


def test_the_installed_command_runs(python: Callable[..., str], site: Path) -> None:
    (script,) = (site / ("Scripts" if os.name == "nt" else "bin")).glob("zoo*")
    assert "reprune" in python(str(script), "--help")
    assert "planted.shapes" in python(str(script), "list")


def test_others_packages_stay_theirs(python: Callable[..., str], site: Path) -> None:
    code = (
        "import datasets, models, zoo.datasets, zoo.models\n"
        "print(datasets.owner, models.owner, zoo.datasets.__file__, zoo.models.__file__, sep='\\n')"
    )
    lines = python(sys.executable, "-c", code).splitlines()
    assert lines[:2] == ["other datasets", "other models"]
    assert all(Path(line).is_relative_to(site / "zoo") for line in lines[2:])
