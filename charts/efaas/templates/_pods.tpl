{{/* The restricted Pod Security Standard, and a root file system that cannot be written. */}}
{{- define "efaas.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "efaas.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Replicas on different nodes and zones where that can be had. */}}
{{- define "efaas.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "efaas.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{- define "efaas.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where a pod may run. Control side pods leave a node that is not ready after 30 s, so that sessions do not wait. */}}
{{- define "efaas.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- with .affinity }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  # Off the QPU nodes where there are others: those are for devices and runners.
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      preference: {matchExpressions: [{key: efaas.dev/qpu, operator: DoesNotExist}]}
  {{- end }}
tolerations:
- {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
{{- with .tolerations }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* A projected token that opens one kind of server and nothing else. */}}
{{- define "efaas.token" -}}
- serviceAccountToken: {audience: {{ . }}, expirationSeconds: 3600, path: {{ . }}}
{{- end }}
