#!/usr/bin/env bash
# What takes too long for scripts/test.sh: hostile files for the readers of data (libFuzzer's part needs clang), then every
# :small preset in full, one after the other (two or three hours), with how long each took. Presets on MNIST and
# CIFAR-10 need ../shared/data beside the repository. What cannot run is skipped by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run_fuzzers() {
  if ! command -v clang++ >/dev/null; then
    echo "== Fuzzers of the parsers: skipped, no clang++ here"
    return
  fi
  echo "== Fuzzers of the parsers, 100,000 inputs each"
  cmake -S tests/fuzz -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGRADIST_FUZZ_RUNS=100000
  cmake --build build/fuzz --target run_fuzzers
}

scripts/setup.sh
run_fuzzers
echo "== Hostile HDF5 files: 10,000 structures, 5,000 with changed bytes"
cmake --build build/release --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" --target run_hostile_files
echo "== Small presets"
.venv/bin/python -m pytest tests/python -m nightly -v -rP
