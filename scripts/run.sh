#!/usr/bin/env bash
# Sets gradist up, runs the main job on the bundled handwritten digits, and writes trace.h5 and report.html here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
echo "== gradist run --out trace.h5 --overwrite"
.venv/bin/gradist run --out trace.h5 --overwrite
echo "== gradist report trace.h5 -o report.html"
.venv/bin/gradist report trace.h5 -o report.html
echo "== Wrote trace.h5 and report.html"
