#!/usr/bin/env bash
# What else needs a GPU: tests on the device, DGCNN beside its written-out form, pruned beside dense.
#   bash benchmarks/gpu_checks.sh [OUT] [DEVICE]       results as text and JSON under OUT, as each part ends
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-results}
device=${2:-cuda}
mkdir -p "$out"
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$out/$name.txt" | tail -n 40
}
step tests pytest -q tests/test_kernels.py tests/test_modes.py tests/test_edgeconv.py tests/test_dgcnn.py tests/test_prune.py tests/test_network.py tests/test_look_precision.py
step dgcnn python benchmarks/dgcnn.py --device "$device" --json "$out/dgcnn.json"
step modes python benchmarks/modes.py --device "$device"
step pruned python benchmarks/pruned.py --device "$device" --json "$out/pruned.json"
