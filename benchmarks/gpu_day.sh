#!/usr/bin/env bash
# All figures that need a GPU, in one call of at most 9 minutes; a second call trains one network at full length.
#
#   bash benchmarks/gpu_day.sh run [OUT] [--minutes 9] [--steps kernels,forward] [--scale 0.01]
#   bash benchmarks/gpu_day.sh train [OUT] [--minutes 9]    DGCNN on ModelNet10, 250 epochs; goes on where it was stopped
#   bash benchmarks/gpu_day.sh pack DATA_DIR                ModelNet10 into carry/, before `train` on another machine
#   bash benchmarks/gpu_day.sh merge RESULTS...             forward times of RESULTS onto the cards of this clone
#   bash benchmarks/gpu_day.sh forward --dry-run            what `run` would time, in its order; needs no GPU
#
# On a fresh machine without a network: copy the working tree there (for `train` with the ignored folder carry/), and
#   bash benchmarks/gpu_day.sh run $OUT
# It needs a Python with torch, Triton, click, filelock, h5py, safetensors and tqdm; PYTHON names it (default: python3).
# The package is installed from the tree if it is not. OUT (default: results) gets at most 8 files: log.txt and, line by
# line as they are measured, kernels.jsonl, forward.jsonl, networks.jsonl and pruning.jsonl; summary.txt at the end. A
# step that fails, or is stopped at its part of the time, does not stop the next. Bring OUT back, then
#   bash benchmarks/gpu_day.sh merge OUT/forward.jsonl && python benchmarks/readme_table.py
# `run` and `train` together need 18 minutes; with less, `run --minutes 4` first. `--scale 0.01` rehearses all of it at a
# hundredth of its size, on a CPU where there is no GPU; what it measures is never merged.
# `train` writes OUT/train-*.pt as it goes: put that file into carry/ and call `train` again, and it goes on from there.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONPATH="$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
if ! "$python" -c 'import importlib.util, zoo; importlib.util.find_spec("zoo.models").origin' 2>/dev/null; then
    "$python" -m pip install -q --no-build-isolation --no-deps -e "$root" || "$python" -m pip install -q -e "$root"
fi
if ! "$python" -c 'import platformdirs' 2>/dev/null; then # it only says where a user's files lie
    export ZOO_HOME=${ZOO_HOME:-$root/runs/zoo} ZOO_DATA_DIR=${ZOO_DATA_DIR:-$root/runs/data}
fi
exec "$python" -m gpu_day "$@"
