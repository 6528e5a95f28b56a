#!/bin/bash
# Deletes the kind cluster of `make kind-up`, everything in it included.
set -euo pipefail
kind delete cluster --quiet --name "${EFAAS_CLUSTER:-efaas}"
