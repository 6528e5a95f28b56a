#!/bin/bash
# Locks what the project installs: versions and hashes for every platform and Python from 3.11 on, no addresses.
# `scripts/lock.sh` keeps what is locked as far as it can; `scripts/lock.sh --upgrade` takes current versions.
set -euo pipefail
cd "$(dirname "$0")/.."
options=("$@")
lock() { # lock NAME SOURCE [OPTION…]
  .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --output-file "requirements/$1.txt" "${@:2}" "${options[@]}"
  echo "requirements/$1.txt: $(grep -c '==' "requirements/$1.txt") packages"
}
lock run pyproject.toml --extra run --extra qpu --extra gateway --extra build    # `make demo`
lock dev pyproject.toml --extra dev --extra build --constraint requirements/run.txt  # `make test`
lock bench requirements/bench.in                                                 # the reference in `make bench`
# Images: each what one program runs, of the same versions as above. `common` and `quantum` are layers that images share.
image() { lock "$@" --constraint requirements/dev.txt; }
image build requirements/build.in
image common pyproject.toml
image quantum pyproject.toml requirements/quantum.in
image operator pyproject.toml --extra operator
image scheduler pyproject.toml --extra scheduler
image gateway pyproject.toml --extra gateway --no-emit-package numpy  # nothing in it computes with arrays
image qpu pyproject.toml requirements/quantum.in --extra qpu
image runner pyproject.toml requirements/runner.in
