"""The layers of docs/architecture.md: who may import whom, no import cycles, and what stays free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom to the top. A module imports from rows above its own in this list, and from its own package.
LAYERS = (
    ("zoo.errors",),
    ("zoo.utils",),
    ("zoo.transfer", "zoo.distributed", "zoo.timing"),
    ("zoo.datasets",),
    ("zoo.cards", "zoo.models"),
    ("zoo.store", "zoo.evaluate"),
    ("zoo.display", "zoo.train"),
    ("zoo.checkpoint",),
    ("zoo.export_targets",),
    ("zoo.export_formats", "zoo.file_entry"),
    ("zoo.convert", "zoo.export", "zoo.half_precision", "zoo"),
    ("zoo.prune.path", "zoo.prune.options", "zoo.prune.report"),
    ("zoo.prune.resume", "zoo.prune.postprocess", "zoo.prune.cutting", "zoo.prune.statistics"),
    ("zoo.prune.reconstruct",),
    ("zoo.prune.engine",),
    ("zoo.prune.search", "zoo.prune.samples", "zoo.prune.validation", "zoo.prune.network_report"),
    ("zoo.prune.budget", "zoo.prune.layerwise"),
    ("zoo.prune.pruner",),
    ("zoo.prune",),
    ("zoo.workflows",),
    ("zoo.cli",),
    ("zoo.__main__", "zoo.train.__main__"),
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}
TORCH_FREE = (
    "zoo", "zoo.cards", "zoo.cli", "zoo.datasets", "zoo.display", "zoo.prune.options", "zoo.store", "zoo.transfer",
    "zoo.utils",
    "zoo.cli.reprune", "zoo.cli.train", "zoo.workflows",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package has the name of its folder."""
    found = {}
    for folder in ("zoo", "models", "datasets", "prune"):
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "zoo" else ("zoo", *parts)
            found[".".join(parts).removesuffix(".__init__")] = file
    return found


MODULES = modules()
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}


def layer_of(module: str) -> str:
    """The name in LAYERS that a module belongs to: the longest that is the module or holds it."""
    return max((name for name in ROW if f"{module}.".startswith(f"{name}.")), key=len)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything of ours that a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zoo":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "zoo")


def upward(module: str, tree: ast.Module) -> list[str]:
    """What a module imports from its own row of LAYERS or a later one, other than from its own layer."""
    own = layer_of(module)
    return [
        f"{module}:{line} imports {target}"
        for line, target in imports(tree)
        if layer_of(target) != own and ROW[layer_of(target)] >= ROW[own] and target != "zoo.errors"
    ]


def past_the_package(module: str, tree: ast.Module) -> list[str]:
    """What a module imports from a file of a package that it is not in, instead of from the package."""
    return [
        f"{module}:{line} imports {target}"
        for line, target in imports(tree)
        if (package := target.rpartition(".")[0]) not in ("", "zoo")
        and target not in PACKAGES
        and not f"{module}.".startswith(f"{package}.")
    ]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(file.read_text()) for name, file in MODULES.items()}


def test_no_import_goes_up(trees: dict[str, ast.Module]) -> None:
    assert [line for name, tree in trees.items() for line in upward(name, tree)] == []


def test_an_upward_import_would_be_seen() -> None:
    hidden = "def f():\n    from zoo.workflows import reprune\n"
    assert upward("zoo.store.mirrors", ast.parse(hidden)) == ["zoo.store.mirrors:2 imports zoo.workflows"]
    assert upward("zoo.prune.engine.gates", ast.parse("from zoo.prune.search import METHODS")) != []
    assert upward("zoo.cards.card", ast.parse("import zoo.models")) != []  # the same row


def test_nobody_imports_past_a_package(trees: dict[str, ast.Module]) -> None:
    assert [line for name, tree in trees.items() for line in past_the_package(name, tree)] == []


def test_no_import_cycle(trees: dict[str, ast.Module]) -> None:
    """Inside a package too: files import one another in one direction."""
    edges = {name: {t for _, t in imports(tree) if t not in PACKAGES and t != name} for name, tree in trees.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a cycle: {' -> '.join((*above[above.index(name):], name))}"
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*above, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_folders_stay_small() -> None:
    for package in PACKAGES:
        folder = MODULES[package].parent
        assert len(list(folder.glob("*.py"))) <= 14 + 1, f"{package} has too many modules"
    assert len(list((ROOT / "zoo").glob("*.py"))) <= 10


def test_no_file_is_hidden_by_a_name_of_its_package(trees: dict[str, ast.Module]) -> None:
    """`zoo.prune.cut` as a file would be hidden by the function `cut` that the package re-exports."""
    hidden = []
    for package in PACKAGES - {"zoo.models"}:  # zoo.models.dgcnn is the builder; the file is imported by from-imports
        tree, folder = trees[package], MODULES[package].parent
        imported = [n for n in tree.body if isinstance(n, ast.ImportFrom) and (n.module or "").startswith(package)]
        names = {alias.asname or alias.name for n in imported for alias in n.names}
        hidden += [f"{package}.{file.stem}" for file in folder.glob("*.py") if file.stem in names]
    assert hidden == []


def test_listing_and_downloading_import_no_torch() -> None:
    code = f"import sys\nfor name in {TORCH_FREE!r}:\n    __import__(name)\nassert 'torch' not in sys.modules\n"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
