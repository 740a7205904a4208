#!/usr/bin/env bash
# Forward times of every entry beside its parent on this machine's GPU, onto the cards, in less than 10 minutes.
#   bash benchmarks/gpu.sh [OUT] [OPTION...]     also as JSON lines in OUT/zoo_times.jsonl; options: zoo_times.py --help
# Run it again for what the time did not suffice for. benchmarks/gpu_checks.sh has the other figures that need a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=${1:-results}
shift $(($# > 0))
# Each card is whole before and after it is replaced, so the last resort against a stuck compiler costs nothing.
exec timeout --kill-after=5 590 "$python" benchmarks/zoo_times.py --out "$out/zoo_times.jsonl" "$@"
