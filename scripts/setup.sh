#!/usr/bin/env bash
# Makes this checkout ready: system packages, .venv, and the gradist package with its program, built in build/release.
# Run it as often as you like: what is there and up to date is left alone, and then it takes seconds.
#
#   PYTHON=python3.12 scripts/setup.sh     another interpreter than python3 (3.11 or newer)
#   CMAKE_BUILD_PARALLEL_LEVEL=2           fewer compilers at once than processors (each takes about 1.5 GB)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(
  g++ cmake ninja-build ccache git ca-certificates python3 python3-venv python3-dev
  libhdf5-dev libeigen3-dev libboost-program-options-dev libtomlplusplus-dev zlib1g-dev
  libcurl4-openssl-dev libssl-dev libarchive-dev libpng-dev libjpeg-dev
  libgtest-dev libgmock-dev librapidcheck-dev
)

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    # An interpreter named by PYTHON brings its own venv and headers.
    [[ -n ${PYTHON:-} && $package == python3* ]] && continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

install_system_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "System packages: not Debian or Ubuntu, so none is installed here. Needed, by their Debian names:"
    say "  ${packages[*]}"
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages)
  if [ "${#missing[@]}" = 0 ]; then
    say "System packages: all there"
    return
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "no sudo here; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "System packages: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

make_venv() {
  if .venv/bin/python -m pip --version >/dev/null 2>&1; then
    return
  fi
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than Python 3.11; name another one by PYTHON"
  say "Python: making .venv with $("$python" --version)"
  "$python" -m venv .venv
}

# All that pyproject.toml asks for, to build, to run and to test: one requirement a line.
requirements() {
  .venv/bin/python - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    config = tomllib.load(file)
project = config["project"]
print(*config["build-system"]["requires"], *project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")
PYTHON
}

install_requirements() {
  local wanted
  wanted=$(requirements)
  if [ "$wanted" = "$(cat .venv/gradist-requirements.txt 2>/dev/null)" ]; then
    say "Python packages: all there"
    return
  fi
  say "Python packages: installing into .venv (torch is large; the first time takes minutes)"
  printf '%s\n' "$wanted" >.venv/wanted.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r .venv/wanted.txt
  mv .venv/wanted.txt .venv/gradist-requirements.txt
}

# Changes when any file does that the package is made of.
fingerprint() {
  local inputs=(CMakeLists.txt pyproject.toml LICENSE README.md cmake src tools bindings)
  {
    pwd
    find "${inputs[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
    cat .venv/gradist-requirements.txt
  } | sha256sum
}

# One build for all: pip builds the module in build/release, and ctest runs from the same folder.
install_package() {
  local now
  now=$(fingerprint)
  if [ "$now" = "$(cat .venv/gradist-package.txt 2>/dev/null)" ] && [ -x .venv/bin/gradist ] && [ -e build/release/build.ninja ]; then
    say "gradist: up to date in .venv"
    return
  fi
  say "gradist: building in build/release and installing into .venv (from nothing about 10 minutes on 2 cores)"
  rm -f .venv/gradist-package.txt
  .venv/bin/python -m pip install --verbose --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall . \
    -C build-dir=build/release -C cmake.define.GRADIST_TESTS=ON -C cmake.define.GRADIST_TOOLS=ON \
    -C cmake.define.GRADIST_INSTALL=ON -C 'build.targets=_core;gradist_program' 2>&1 |
    tee .venv/gradist-build.log | sed -un 's/.*\(\[[0-9]*\/[0-9]*\] [BL].*\)/   \1/p' ||
    { grep -E -A4 'error|FAILED' .venv/gradist-build.log | head -n 40 >&2; fail "the build failed; all of it is in .venv/gradist-build.log"; }
  echo "$now" >.venv/gradist-package.txt
}

install_system_packages
make_venv
install_requirements
install_package
say "Ready: .venv/bin/gradist"
