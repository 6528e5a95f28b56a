#!/bin/bash
# Builds the images and prints their sizes against the targets; ends with 1 if one is larger.
#   scripts/build_images.sh [IMAGE…]      operator scheduler gateway qpu runner, or some of them
# EFAAS_REGISTRY (default efaas.local/efaas) and EFAAS_TAG (default dev) name them; EFAAS_BASE_IMAGE is another
# base (any Debian 12 with Python 3.11), EFAAS_ENGINE another engine than docker.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${EFAAS_ENGINE:-docker} registry=${EFAAS_REGISTRY:-efaas.local/efaas} tag=${EFAAS_TAG:-dev}
declare -A target=([operator]=260 [scheduler]=260 [gateway]=320 [qpu]=600 [runner]=600)
images=("$@")
[ ${#images[@]} -gt 0 ] || images=(operator scheduler gateway qpu runner)
arguments=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
# An image is one manifest then, which kind can load.
[ "$engine" != docker ] || arguments+=(--provenance=false)
[ -z "${EFAAS_BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE=$EFAAS_BASE_IMAGE")
[ -z "${EFAAS_VERSION:-}" ] || arguments+=(--build-arg "VERSION=$EFAAS_VERSION")
too_large=0
rows=""
for image in "${images[@]}"; do
  DOCKER_BUILDKIT=1 "$engine" build --quiet --file images/Dockerfile --target "$image" \
    --tag "$registry-$image:$tag" "${arguments[@]}" . >/dev/null
  size=$(("$("$engine" image inspect --format '{{.Size}}' "$registry-$image:$tag")" / 1000000))
  verdict=reached
  [ "$size" -le "${target[$image]}" ] || { verdict="NOT REACHED"; too_large=1; }
  rows+=$(printf '%-40s %4d MB  (<= %d MB, %s)' "$registry-$image:$tag" "$size" "${target[$image]}" "$verdict")$'\n'
done
printf '%s' "$rows"
exit $too_large
