"""What a command can know to be wrong is said before torch is imported, and in the words of the command line."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from store_entries import make

from zoo.cards.licences import Licences
from zoo.cli.reprune import reprune
from zoo.cli.train import train
from zoo.cli.wording import with_option_names
from zoo.workflows import checks

ROOT = Path(__file__).parents[2]
OWN = Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="Apache-2.0")

# What is typed (DIR is a folder) -> a part of the answer. Seconds before the checks came first, on two busy cores.
WRONG = {
    "train dgcn": "there is no network 'dgcn': did you mean dgcnn?",  # 5.0
    "train dgcnn --dataset shaps": "no data set is called 'shaps'; did you mean shapes?",  # 4.0
    "train dgcnn --dataset modelnet10 --data-dir DIR/none": "there is no modelnet10 to read: DIR/none is no folder",
    "train resnet34 --dataset imagenette --data-dir DIR/empty": "DIR/empty is empty; give the folder that holds it",
    "train resnet34 --dataset shapes": "resnet34 takes images, shapes holds point clouds: it can take cifar10",  # 7.2
    "train dgcnn --dataset imagenette": "dgcnn takes point clouds, imagenette holds images: it can take",
    "train resnet34 --dataset imagenet --download": "imagenet cannot be downloaded here",  # 5.9
    "train resnet34 --dataset imagenet --std 0 1 1": "--std takes three numbers above 0",
    "train dgcnn --size 32": "shapes holds points, so --size does not apply; it takes --points",  # 3.6
    "train dgcnn --points 0": "a cloud needs 1 point or more, not 0: give for example --points 512",  # 3.9
    "train dgcnn --points 65537": "a cloud has 65536 points at most, not 65537: give fewer with --points",
    "train dgcnn --epochs 0": "0 epochs train nothing",  # 2.6
    "train dgcnn --lr nan": "a learning rate of nan is not possible",  # 3.0
    "train dgcnn --batch-size 1": "a batch of 1 is too small",
    "train dgcnn --average 1.5": "--average is a part, from 0 up to 1; got 1.5",
    "train dgcnn --width 2": "(--width) lies above 0 and at most at 1; got 2",  # 3.3
    "train dgcnn --precision int8": "there is no precision 'int8'",  # 3.6
    "train dgcnn --recipe DIR/none.ini": "the recipe DIR/none.ini cannot be read: No such file",  # 3.9
    "train dgcnn --name a/b": "'a/b' is not a model name",  # 3.5
    "train dgcnn --name dgcnn.shapes": "is shipped: give yours another one with --name, or write it to a folder of its "
    "own with --output-dir DIR",  # 3.5
    "train dgcnn --name mine.shapes": "with --name, or replace that one with --overwrite",  # 3.5
    "train dgcnn --device gpu": "'gpu' is not a device for a network: write cpu, cuda or cuda:0",  # 3.5
    "train dgcnn --validation 2": "the validation part is 2.0: give a number between 0 and 1",  # 3.8
    "train dgcnn --log /proc/none/log": "cannot write the log /proc/none/log",
    "train dgcnn --output-dir /proc/none": "cannot write to the folder /proc/none",
    "finetune dgcn.shapes": "no model 'dgcn.shapes' in the zoo: did you mean dgcnn.shapes",  # 4.1
    "finetune dgcnn.shapes --dataset nothing": "no data set is called 'nothing'",  # 3.3
    "finetune dgcnn.shapes --dataset imagenette": "dgcnn.shapes takes point clouds, imagenette holds images",  # 5.4
    "finetune dgcnn.shapes --epochs 0": "0 epochs train nothing",  # 3.2
    "finetune dgcnn.shapes --distil 0.5": "has no parent to learn from: fine-tune it without --distil",  # 3.2
    "finetune dgcnn.shapes --name dgcnn.shapes": "would be its own parent: give this one another name with --name",
    "reprune dgcn --eps 0.1": "no model 'dgcn' in the zoo: did you mean dgcnn?",  # 3.4
    "reprune dgcnn.shapes --eps 0.1 --groups conv6": "no neuron group 'conv6'; did you mean conv5? Its groups: conv5,",
    "reprune dgcnn.shapes --eps 0.1 --exclude conv6": "has no neuron group 'conv6'; did you mean conv5?",  # 43
    "reprune dgcnn.shapes --eps 0.1 --groups conv5 --exclude conv5": "leave --groups out to prune all",
    "reprune dgcnn.shapes --eps -1": "--eps is a tolerance of the cross-entropy, a number that is not negative",
    "reprune dgcnn.shapes --target-macs 1.5": "--target-macs is 1.5: give a part of the MACs below 1, or their number",
    "reprune dgcnn.shapes --target-params 9e9": "--target-params is 9e+09, but dgcnn.shapes has 1804436 parameters",
    "reprune dgcnn.shapes --eps 0.1 --target-macs 0.5": "--eps and a target were given",
    "reprune dgcnn.shapes --target-macs 0": "A budget is a number above 0",
    "reprune dgcnn.shapes --eps 0.1 --method lokal": "no pruning method 'lokal'; did you mean local or global?",
    "reprune dgcnn.shapes --eps 0.1 --samples 0": "0 samples are too few to prune on",
    "reprune dgcnn.shapes --eps 0.1 --memory nan": "--memory is nan: give GiB",
    "reprune dgcnn.shapes --eps 0.1 --samples 4097": "4097 samples to prune on were asked for, but the training split "
    "has 4096",  # 5.1
    "train dgcnn --dataset modelnet40 --data-dir DIR/other": "there is no modelnet40 to read: DIR/other has no "
    "shape_names.txt, modelnet[14]0_t*.txt",  # 4.6
    "train resnet34 --dataset imagenet --data-dir DIR/other": "DIR/other has no train, val, ILSVRC2012_*; give the",
    "train vgg11 --dataset cifar10 --data-dir DIR/other": "DIR/other has no train.h5, test.h5; give the folder that",
    "reprune dgcnn.shapes --eps 0.1 --dataset cifar10": "dgcnn.shapes takes point clouds, cifar10 holds images",
    "reprune dgcnn.shapes --eps 0.1 --dataset modelnet40 --data-dir DIR": "classes apart, but modelnet40 has 40",
    "reprune dgcnn.shapes --eps 0.1 -O search.eps_tolerance=2": "-O search.eps_tolerance is a fraction of --eps",
    "reprune dgcnn.shapes --eps 0.1 -O repair.label_weight=2": "-O repair.label_weight is a fraction, from 0 to 1",
    "reprune dgcnn.shapes --eps 0.1 --finetune-distil 0.5": "of the fine-tuning's loss: give --finetune-epochs as well",
    "reprune dgcnn.shapes --eps 0.1 --name dgcnn-pruned-0.5x.shapes": "is the name of an entry that is shipped",
    "reprune dgcnn.shapes --eps 0.1 --name mine.shapes": "has an entry mine.shapes already, made by `zoo reprune",
    "reprune dgcnn --weights DIR/none.pth --dataset shapes --eps 0.1": "there is no file DIR/none.pth",  # 3.3
    "reprune dgcnn --weights DIR/weights.pth --eps 0.1": "say which data set they were trained on: --dataset NAME",
    "reprune dgcn --weights DIR/weights.pth --dataset shapes --eps 0.1": "the name is that of a network: did you mean",
    "eval dgcn": "did you mean dgcnn?",  # 6.5
    "eval dgcnn.shapes --dataset imagenette": "dgcnn.shapes takes point clouds",  # 6.6
    "eval dgcnn.shapes --points -3": "a cloud needs 1 point or more, not -3",  # 6.0
    "eval dgcnn.shapes --points 0": "a cloud needs 1 point or more, not 0",  # was taken for none given
    "eval dgcnn.shapes --device tpu": "'tpu' is not a device",  # 5.0
    "eval dgcnn.modelnet10 --data-dir DIR/none": "DIR/none is no folder",  # 5.5
    "bench dgcn": "did you mean dgcnn?",  # 4.9
    "bench dgcnn.shapes --dtype int8": "unknown dtype 'int8'",  # 8.6
    "bench dgcnn.shapes --mode fast": "unknown mode 'fast'",  # 7.2
    "bench dgcnn.shapes --mode cuda_graph --device cpu": "use --mode eager or --mode compiled",  # 8.0
    "bench dgcnn.shapes images.cifar10": "of one shape only: dgcnn.shapes takes 3 x 512, images.cifar10 takes 5",
    "export dgcn --format onnx": "did you mean dgcnn?",  # 7.4
    "export dgcnn.shapes --format onx": "there is no format 'onx': did you mean onnx?",  # 7.4
    "export dgcnn.shapes --format torchscript -o DIR/x.onnx": "of a file in the format torchscript ends in .pt",
    "export dgcnn.shapes --format torch.export -o DIR/there.pt2": "with --out, or replace it with --overwrite",  # 7.1
    "convert DIR/none.pth --arch dgcnn -o DIR/new.safetensors": "no file DIR/none.pth",  # 7.5
    "convert DIR/weights.pth --arch dgcn -o DIR/new.safetensors": "there is no network 'dgcn': did you mean dgcnn?",
    "convert DIR/weights.pth --arch dgcnn -o DIR/new.bin": "the name of a checkpoint ends in .safetensors",  # 3.9
    "convert DIR/weights.pth --arch dgcnn --num-classes 0 -o DIR/new.safetensors": "or leave --num-classes out",  # 3.9
}
EACH_ALONE = """
import json, sys, time
from click.testing import CliRunner
from zoo.cli import main
for line in json.load(sys.stdin):
    began = time.monotonic()
    result = CliRunner().invoke(main, line.split())
    seconds = time.monotonic() - began
    print(json.dumps([result.exit_code, result.stdout, result.stderr, 'torch' in sys.modules, seconds]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, bool, float]]:
    """What each line answers, all of them in one process without torch: if one imported it, all after it had it."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "empty").mkdir()
    (folder / "other" / "ModelNet40").mkdir(parents=True)
    (folder / "other" / "readme.txt").write_text("of something else")
    for name in ("weights.pth", "there.pt2"):
        (folder / name).write_bytes(b"some bytes")
    command = {"command": "zoo reprune dgcnn.shapes --eps 0.02 --seed 0", "eps": 0.02, "seed": 0}
    own = folder / "home" / "own"
    make(own, "mine.shapes", parent="dgcnn.shapes", licences=OWN, recipe=command)
    make(own, "images.cifar10", dataset="cifar10")
    environment = {**os.environ, "ZOO_HOME": str(folder / "home"), "ZOO_DATA_DIR": str(folder / "no data")}
    for name in ("ZOO_MIRROR", "ZOO_PLUGINS"):
        environment.pop(name, None)
    lines = [line.replace("DIR", str(folder)) for line in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", EACH_ALONE], input=json.dumps(lines), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line.replace(str(folder), "DIR")) for line in done.stdout.splitlines()]
    return dict(zip(WRONG, map(tuple, printed), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_it_is_said_at_once_in_one_sentence(line: str, answers: dict[str, tuple[int, str, str, bool, float]]) -> None:
    code, stdout, stderr, torch, seconds = answers[line]
    assert (code, stdout) == (2, "")
    (error,) = stderr.splitlines()
    assert error.startswith("Error: ")
    assert WRONG[line] in error
    assert not torch, f"torch was imported: {error}"
    assert seconds < 10  # generous: it is a few hundredths
    assert not re.search(r"`\w+(=\S+)?`", error), "a parameter of Python was not translated"


@pytest.mark.skipif(checks._may_have_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_an_absent_gpu_is_told_before_torch(device: str) -> None:
    command = "import sys, zoo.cli; zoo.cli.main(sys.argv[1:], standalone_mode=False)"
    words = ["reprune", "dgcnn.shapes", "--eps", "0.1", "--device", device]
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", command, *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert f"device '{device}' is asked for, but this machine has no GPU; use --device cpu" in done.stderr
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_parameters_are_printed_as_the_options_of_the_command() -> None:
    message = "`data_dir=DIR`, `download=True`, `resume=False`, `eps`, `macs`, `eval_dtype=float32`, `zoo info x`, `k`"
    assert with_option_names(reprune, message) == (
        "--data-dir DIR, --download, --no-resume, --eps, --target-macs, -O search.eval_dtype=float32, `zoo info x`, `k`"
    )
    assert with_option_names(reprune, "`recovery`, `update_weights=False`") == "--recovery, --no-repair"
    assert with_option_names(train, "`arch` with `width=0.5`, without `overwrite=False`") == (
        "ARCH with --width 0.5, without no --overwrite"
    )
    assert with_option_names(click.Command("plain"), "`data_dir=DIR`") == "`data_dir=DIR`"


def messages() -> Iterator[tuple[str, str]]:
    """Place and text of every ZooError that the library raises, {} for what is put in."""
    for folder in ("zoo", "models", "datasets", "prune"):
        for file in (ROOT / folder).rglob("*.py"):
            if "cli" in file.parts:
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ZooError" and node.args:
                    text = node.args[0]
                    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                    words = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts]
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", "".join(words)


def test_no_message_of_the_library_speaks_of_options() -> None:
    """But for the options of a command that is to be typed, which follow its name."""
    found = [(place, text) for place, text in messages() if re.search(r"(?<![\w-])--[a-z]", text)]
    commands = ("zoo ", "pip ", "torchrun ")
    assert [(place, text) for place, text in found if not any(name in text.split("--")[0] for name in commands)] == []
    assert len(list(messages())) > 200
