#!/usr/bin/env bash
# Sets gradist up and runs all its tests: C++ (ctest), Python (pytest) and the notebooks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
echo "== Building the C++ tests in build/release"
cmake --build build/release --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
echo "== ctest"
ctest --test-dir build/release --output-on-failure --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
# ctest says nothing of what its programs skipped.
awk '/: Skipped$/ { getline reason } /^\[  SKIPPED \] .*ms\)$/ { print "skipped", index(reason, $4) ? reason : $4 ": " reason }' \
    build/release/Testing/Temporary/LastTest.log
echo "== pytest: tests/python and the notebooks"
.venv/bin/python -m pytest tests/python
.venv/bin/python -m pytest --nbmake notebooks
