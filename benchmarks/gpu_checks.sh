#!/usr/bin/env bash
# What else needs a GPU: tests on the device, DGCNN beside its written-out form, pruned beside dense.
#
#   bash benchmarks/gpu_checks.sh [OUT] [DEVICE]       what each part prints, and its JSON, under OUT, row by row
#
# In under ten minutes: a part that takes longer than its share is ended, and what it found by then is there. The exit
# code is 1 if a part failed or was ended.
# PYTHON names the interpreter (default: python); there: pip install -e ".[test]".
set -uo pipefail
python=${PYTHON:-python}
out=$(realpath -m "${1:-results}")
device=${2:-cuda}
cd "$(dirname "$0")/.."
mkdir -p "$out"
failed=0
step() { # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2
    shift 2
    echo "== $name"
    if ! timeout --kill-after 10 "$seconds" "$@" 2>&1 | tee "$out/$name.txt" | tail -n 40; then
        echo "== $name failed, or took longer than its $seconds s" >&2
        failed=1
    fi
}
chosen='on_a_gpu or waits_for_a_gpu or gpu_is_timed or cuda_graph_replays'
step tests 150 "$python" -m pytest -q -k "$chosen" tests/test_kernels.py tests/test_measure.py tests/test_modes.py \
    tests/test_network.py tests/test_look_precision.py
step dgcnn 150 "$python" benchmarks/dgcnn.py --device "$device" --json "$out/dgcnn.json"
step pruned 180 "$python" benchmarks/pruned.py --device "$device" --json "$out/pruned.json"
step modes 90 "$python" benchmarks/modes.py --device "$device"
exit "$failed"
