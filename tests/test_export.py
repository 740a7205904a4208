"""Exported files: every network in every format gives its logits at any batch size, and a wrong file is not kept."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from store_entries import plain, write_index
from torch import Tensor, nn

import zoo
from zoo import export_formats as formats
from zoo import models
from zoo.cli import main
from zoo.errors import ZooError
from zoo.export import export
from zoo.utils import sha256_of
from zoo.workflows import save_entry

SHAPES = {"mlp": (5,), "dgcnn": (3, 20), "pointnet": (3, 20), "pointnet2": (3, 8)}  # the others take images
OPTIONS: dict[str, dict[str, Any]] = {"mlp": {"in_features": 5}, "dgcnn": {"k": 3}}
FORMATS = ("onnx", "torch.export", "torchscript")
SUFFIX = {"onnx": ".onnx", "torch.export": ".pt2", "torchscript": ".torchscript.pt"}


@pytest.fixture(autouse=True)
def folder(empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, an empty one; the zoo is empty as well."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def entry(arch: str = "mlp", place: Path | None = None) -> str:
    """A narrow network with random weights and statistics as an entry; its name."""
    torch.manual_seed(0)
    options = OPTIONS.get(arch, {})
    with torch.device("meta"):
        dense = models.build(arch, **options)
    widths = {name: max(2, n // 16) for name, n in models.widths_of(dense).items()}
    model = models.build(arch, num_classes=4, widths=widths, **options)
    shape = SHAPES.get(arch, (3, 32, 32))
    for each in model.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            each.weight.data[::3] *= -1  # a negative gain turns a maximum over neighbours around
            each.momentum = 1.0
    model(torch.randn(32, *shape))  # statistics with which logits differ from sample to sample
    card = plain(
        f"{arch}-narrow.shapes",
        arch=arch,
        num_classes=4,
        sample_shape=shape,
        options=options,
        widths=dict(model.widths),
    )
    return save_entry(model, card, place).name


def loaded(path: Path, format: str) -> tuple[Callable[[Tensor], Tensor], str]:
    """What a user would run, and the card in the file."""
    extra: dict[str, Any] = {"card.json": ""}
    if format == "torchscript":
        with formats.quiet():
            return torch.jit.load(path, _extra_files=extra), extra["card.json"].decode()
    if format == "torch.export":
        return torch.export.load(path, extra_files=extra).module(), extra["card.json"]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    card = session.get_modelmeta().custom_metadata_map["card"]
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), card


# Up to 30 s each: by default the smallest network.
@pytest.mark.parametrize(
    "arch", [name if name == "mlp" else pytest.param(name, marks=pytest.mark.slow)
             for name in models.ARCHS],
)  # fmt: skip
def test_every_network_in_every_format_gives_its_logits_at_any_batch(
    arch: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The graph is captured once for the two formats that are made of it, which saves a third of the time.
    capture = functools.lru_cache(lambda: captured_program(*arguments))
    arguments: list[Any] = []
    captured_program = formats._program

    def once(*given: Any) -> Any:
        arguments[:] = given
        return capture()

    monkeypatch.setattr(formats, "_program", once)
    name = entry(arch)
    network = zoo.get(name)
    inputs = [torch.randn(batch, *zoo.info(name).sample_shape) for batch in (1, 2, 6)]
    with torch.no_grad():
        truths = [network(x) for x in inputs]
    assert (truths[2] - truths[2].mean(0)).norm() > 1e-3 * truths[2].norm()  # these logits say which sample it is
    # These two have V3-small's operators (but for V2's ReLU6), and in all formats would take half of this file's time.
    in_formats = {"mobilenet_v2": FORMATS[1:], "mobilenet_v3_large": FORMATS[2:]}.get(arch, FORMATS)
    for format in in_formats:
        result = export(name, format=format)
        assert result.path == Path(name + SUFFIX[format])
        assert max(result.errors.values()) < 3e-4  # these networks are deep, narrow and untrained: rounding grows
        run, card = loaded(folder / result.path, format)
        assert json.loads(card) == json.loads(zoo.info(name).to_json())
        for x, truth in zip(inputs, truths, strict=True):  # with gradients enabled, as a user may have them
            assert (run(x) - truth).norm() < 3e-4 * truth.norm()
    assert sorted(path.name for path in folder.iterdir()) == sorted(name + SUFFIX[format] for format in in_formats)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arch", ["dgcnn", "pointnet"])
@pytest.mark.parametrize(
    "format", [name if name == "torchscript" else pytest.param(name, marks=pytest.mark.slow) for name in FORMATS]
)
def test_a_network_for_clouds_takes_any_number_of_points(arch: str, format: str, folder: Path) -> None:
    name = entry(arch)
    result = export(name, format=format)
    assert list(result.points_errors) == [11, 27]  # checked beside the 20 of the trace
    assert "input (batch, 3, points), any batch and number of points" in result.table()
    run_file, _ = loaded(folder / result.path, format)
    with torch.no_grad():
        for batch, points in ((1, 5), (2, 20), (4, 33)):
            x = torch.randn(batch, 3, points)
            truth = zoo.get(name)(x)
            assert (run_file(x) - truth).norm() < 3e-4 * truth.norm()


def test_the_number_of_points_can_be_fixed_and_is_where_it_cannot_be_free(folder: Path) -> None:
    result = export(entry("pointnet"), format="torchscript", points=12)
    assert (result.sample_shape, result.points_errors) == ((3, 12), {})
    assert "input (batch, 3, 12), any batch" in result.table()
    assert (result.to_dict()["sample_shape"], result.to_dict()["free_points"]) == ([3, 12], False)
    for points, name, reason in ((0, entry("pointnet"), "are too few"), (5, entry("mlp"), "takes no clouds")):
        with pytest.raises(ZooError, match=reason):
            export(name, format="torchscript", points=points, overwrite=True)


@pytest.fixture
def small() -> str:
    return entry()


def changed(format: str, change: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the writer of a format write a changed network."""
    form = formats.FORMATS[format]

    def write(model: nn.Module, x: Tensor, card: zoo.Card, min_points: int | None) -> bytes:
        return form.write(change(model), x, card, min_points)

    monkeypatch.setitem(formats.FORMATS, format, dataclasses.replace(form, write=write))


class Changed(nn.Module):
    def __init__(self, model: nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.after = model, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(x))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (lambda y: y * 1.003, "other logits than the network: relative error 3.0e-03, at most 1e-03"),
        (lambda y: y.flip(0), "other logits"),
        (lambda y: y * float("nan"), "relative error nan"),
        (lambda y: y + torch.zeros(3, 4), "does not run at other sizes than those traced"),
        (lambda y: y[:, :3], "the shape (1, 3)"),
    ],
)
def test_a_file_that_is_not_the_network_gets_no_name(
    small: str, folder: Path, after: Callable[[Tensor], Tensor], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed("torchscript", lambda model: Changed(model, after), monkeypatch)
    (folder / "old.pt").write_bytes(b"old")
    for out, overwrite in ((None, False), ("old.pt", True)):
        with pytest.raises(ZooError, match="nothing was written") as caught:
            export(small, format="torchscript", out=out, overwrite=overwrite)
        assert reason in str(caught.value)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("old.pt", b"old")]


def test_a_network_that_searches_neighbours_may_differ_by_a_tie_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    name = entry("dgcnn")
    with monkeypatch.context() as patch:
        changed("torchscript", lambda model: Changed(model, lambda y: y * 1.003), patch)
        errors = export(name, format="torchscript").errors
        assert list(errors) == [1, 5]
        assert list(errors.values()) == pytest.approx([3e-3, 3e-3], rel=1e-3)
    changed("torchscript", lambda model: Changed(model, lambda y: y * 1.02), monkeypatch)
    with pytest.raises(ZooError, match=r"relative error 2\.0e-02, at most 1e-02"):
        export(name, format="torchscript", overwrite=True)


def test_an_operator_that_a_format_lacks_is_said_in_a_sentence(
    small: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed("onnx", lambda model: Changed(model, lambda y: y.view(torch.int32).view(torch.float32)), monkeypatch)
    with pytest.raises(ZooError, match=r"cannot write mlp-narrow\.shapes as onnx \(.+\); try another") as caught:
        export(small, format="onnx")
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def test_files_name_no_folder_of_this_machine_and_hold_no_random_numbers(small: str, folder: Path) -> None:
    source = str(Path(models.__file__).parent).encode()
    for format in ("onnx", "torch.export"):
        assert source not in export(small, format=format).path.read_bytes()
    assert torch.export.load(f"{small}.pt2").example_inputs is None


def test_the_onnx_file_says_what_it_takes_and_gives(small: str) -> None:
    import onnx

    graph = onnx.load(export(small, format="onnx").path).graph
    described = [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]
    assert described == [("input", ["batch", 5]), ("logits", ["batch", 4])]


def test_an_existing_file_is_replaced_only_if_asked(small: str, folder: Path) -> None:
    path = folder / "net.pt"
    path.write_bytes(b"mine")
    with pytest.raises(ZooError, match=r"net\.pt is there already: .* `overwrite=True`"):
        export(small, format="torchscript", out=path)
    assert path.read_bytes() == b"mine"
    result = export(small, format="torchscript", out=path, overwrite=True)
    assert result.size == path.stat().st_size > 1000
    assert result.sha256 == sha256_of(path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_to_type(
    small: str, package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ZooError, match=rf"not installed \({package}\): type pip install 'pruned-zoo\[export\]'"):
        export(small, format="onnx")
    assert export(small, format="torchscript").path.exists()  # which needs none of them


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mlp-narow", "--format", "onnx"], "did you mean mlp-narrow"),
        (["mlp-narrow", "--format", "onx"], "there is no format 'onx': did you mean onnx?"),
        (["mlp-narrow", "--format", "onnx", "-o", "net.pt"], "net.pt: the name of a file in the format onnx ends"),
        (["mlp-narrow", "--format", "torchscript", "-o", "net.pt2"], "ends in .pt"),
        (["mlp-narrow", "--format", "torchscript", "-o", "folder.pt"], "folder.pt is a folder"),
        (["mlp-narrow", "--format", "torchscript", "-o", "file/net.pt"], "cannot write file/net.pt"),
    ],
)
def test_wrong_words_are_answered_in_a_sentence(
    small: str, words: list[str], message: str, folder: Path
) -> None:
    (folder / "folder.pt").mkdir()
    (folder / "file").touch()
    result = CliRunner().invoke(main, ["export", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert sorted(path.name for path in folder.rglob("*")) == ["file", "folder.pt"]


def test_a_card_whose_sample_shape_is_not_the_networks_is_said_to_be_wrong(small: str) -> None:
    card = dataclasses.replace(zoo.info(small), name="wrong.shapes", sample_shape=(6,), file=None)
    save_entry(zoo.get(small), card)
    with pytest.raises(ZooError, match=r"wrong\.shapes does not run on samples of the shape \(6,\)"):
        export("wrong", format="torchscript")


def test_the_command_brings_the_entry_from_a_mirror_and_prints_what_it_made(folder: Path, tmp_path: Path) -> None:
    name = entry(place=tmp_path / "mirror")
    write_index(tmp_path / "mirror")
    words = ["export", "mlp-narrow", "--format", "torchscript", "--mirror", str(tmp_path / "mirror")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    path = folder / f"{name}.torchscript.pt"
    for text in (path.name, f"{path.stat().st_size} bytes", "batch 1", "batch 5", "relative error", "1e-03"):
        assert text in result.stdout
    result = CliRunner().invoke(main, [*words, "--overwrite", "--json"])
    printed = json.loads(result.stdout)
    assert printed["relative_error"].keys() == {"1", "5"}
    assert (printed["name"], printed["path"], printed["size"]) == (name, path.name, path.stat().st_size)
    assert printed["tolerance"] == 1e-3
