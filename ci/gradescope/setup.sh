#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the autograder's image: installs what grading needs, and makes all
# that a grading would otherwise have to build first. AUTOGRADER names another place than /autograder, for trials.
set -euo pipefail
root=${AUTOGRADER:-/autograder}
harness=$root/source/gpulab

fitting_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  return 1
}

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq bubblewrap ca-certificates iproute2 make nftables python3 python3-venv util-linux
  # python3 of Ubuntu 22.04 is 3.10, and 3.11 is beside it.
  fitting_python >/dev/null || apt-get install -y -qq python3.11 python3.11-venv || true
fi
python=$(fitting_python) || {
  echo "setup.sh needs Python 3.11 or later with venv, and found $(python3 --version 2>&1)." >&2
  echo "Choose a newer base image in Gradescope, or install one above." >&2
  exit 1
}
make -C "$harness" PYTHON="$python" .venv/ready
"$harness/.venv/bin/gpulab" prepare --lab "$(cat "$root/source/lab")"
