#!/bin/bash
# Makes a kind cluster with EFaaS in it: nodes, images, chart. What is there already is taken over and brought up to date.
#   scripts/kind_up.sh [HELM-OPTION…]        for example --set tls.mode=Off
# EFAAS_CLUSTER (default efaas) names it; KIND_NODE_IMAGE is the nodes' image, kind's own default without it;
# EFAAS_BUILD=no takes the images as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=${EFAAS_CLUSTER:-efaas} namespace=efaas-system
registry=${EFAAS_REGISTRY:-efaas.local/efaas} tag=${EFAAS_TAG:-dev}
say() { echo "kind-up: $*" >&2; }
for program in docker kind kubectl helm; do
  command -v $program >/dev/null || { say "$program is missing; docs/install.md says what is needed"; exit 1; }
done

[ "${EFAAS_BUILD:-yes}" = no ] || { say "building the images"; scripts/build_images.sh; }
if ! kind get clusters 2>/dev/null | grep -qx "$cluster"; then
  say "making the cluster $cluster"
  kind create cluster --quiet --name "$cluster" --config scripts/kind-cluster.yaml --wait 180s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
fi
context=kind-$cluster
kind export kubeconfig --quiet --name "$cluster"
say "loading the images into the workers"
mapfile -t workers < <(kind get nodes --name "$cluster" | grep -v control-plane | sort)
# Named by their content: a pod is made anew when its image is another one, and only then.
parts=(operator scheduler gateway qpu runner) images=()
content=$(for part in "${parts[@]}"; do docker image inspect --format '{{.Id}}' "$registry-$part:$tag"; done | sha256sum | cut -c1-12)
for part in "${parts[@]}"; do
  docker tag "$registry-$part:$tag" "$registry-$part:$content"
  images+=("$registry-$part:$content")
done
# A node that has all of them is spared: loading takes a minute or two.
lacking=()
for worker in "${workers[@]}"; do
  held=$(docker exec "$worker" ctr --namespace k8s.io images ls -q 2>/dev/null | grep -c ":$content\$" || true)
  [ "$held" -ge ${#parts[@]} ] || lacking+=("$worker")
done
[ ${#lacking[@]} = 0 ] || kind load docker-image --quiet --name "$cluster" --nodes "$(IFS=,; echo "${lacking[*]}")" "${images[@]}"

say "installing the chart"
kubectl --context "$context" apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
YAML
helm --kube-context "$context" upgrade --install efaas charts/efaas --namespace $namespace \
  --values scripts/kind-values.yaml --set "images.tag=$content" --wait --timeout 5m "$@" >&2
kubectl --context "$context" get qpudevices
say "next: kubectl --context $context apply -f examples/h2.yaml; kubectl --context $context get vqa,qpu --watch"
