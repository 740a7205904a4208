#!/usr/bin/env bash
# Forward times of every entry beside its parent on this machine's GPU, onto the cards, in less than 10 minutes: the
# shipped ones, those of mirror/ and your own. Then `python benchmarks/readme_table.py` renews the tables of the README.
#   bash benchmarks/gpu.sh [OUT] [OPTION...]     also as JSON lines in OUT/zoo_times.jsonl; options: zoo_times.py --help
#   bash benchmarks/gpu.sh --dry-run             print what would be timed, in its order; needs no GPU
# Eager and as a CUDA graph come first for all entries, in float32 and bfloat16 and of batches of 32 and 1; then
# compiled, as far as the time goes. What is left is named, and the same command goes on with it: with what no card
# states of this GPU, then with what was measured longest ago.
# Measured on a machine whose clone is not kept, OUT/zoo_times.jsonl comes onto the cards of another clone by
# `python benchmarks/onto_cards.py OUT/zoo_times.jsonl`.
# benchmarks/gpu_checks.sh has the other figures that need a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=results
if [[ $# -gt 0 && $1 != -* ]]; then
    out=$1
    shift
fi
# Each card is whole before and after it is replaced, so the last resort against a stuck compiler costs nothing.
exec timeout --kill-after=5 590 "$python" benchmarks/zoo_times.py --out "$out/zoo_times.jsonl" "$@"
