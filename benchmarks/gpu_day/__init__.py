"""The figures that need a GPU, step by step: the commands behind benchmarks/gpu_day.sh."""
