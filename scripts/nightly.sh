#!/usr/bin/env bash
# Runs every :small preset in full, one after the other (an hour or two on two cores), and prints how long each took.
# Those on MNIST and CIFAR-10 need ../shared/data beside the repository and are skipped by name without it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
.venv/bin/python -m pytest tests/python -m nightly -v -rP
