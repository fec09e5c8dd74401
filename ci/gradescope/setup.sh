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

fitting_bubblewrap() {
  [[ $(bwrap --version 2>/dev/null) =~ ([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] > 0 || BASH_REMATCH[2] >= 8))
}

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq bubblewrap ca-certificates iproute2 make nftables python3 python3-venv util-linux
fi
python=$(fitting_python) || {
  echo "setup.sh needs Python 3.11 or later with venv, and found $(python3 --version 2>&1)." >&2
  echo "Choose Ubuntu 24.04 or later as the base image in Gradescope, or install one above." >&2
  exit 1
}
# Nothing but a grading would say so, of every submission: it can be built without.
fitting_bubblewrap || {
  echo "setup.sh needs bubblewrap 0.8 or later, and found $(bwrap --version 2>&1)." >&2
  echo "Choose Ubuntu 24.04 or later as the base image in Gradescope, or install one above." >&2
  exit 1
}
make -C "$harness" PYTHON="$python" .venv/ready
"$harness/.venv/bin/gpulab" prepare --lab "$(cat "$root/source/lab")"
