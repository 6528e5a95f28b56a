{{/* The pod of a job of `efaas_operator.installing`. dict root, account, args (list), volumes, mounts */}}
{{- define "efaas.job" -}}
backoffLimit: 3
activeDeadlineSeconds: {{ .deadline | default 300 }}
ttlSecondsAfterFinished: 600
template:
  metadata:
    labels:
      {{- include "efaas.labels" (dict "root" .root "component" .account) | nindent 6 }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ .account }}
    automountServiceAccountToken: true
    enableServiceLinks: false
    {{- include "efaas.pullSecrets" .root | nindent 4 }}
    securityContext:
      {{- include "efaas.podSecurity" .root | nindent 6 }}
    {{- include "efaas.placement" .root.Values.operator | nindent 4 }}
    containers:
    - name: installing
      image: {{ include "efaas.image" (dict "root" .root "part" "operator") }}
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      command: [python, -m, efaas_operator.installing]
      args:
      {{- toYaml .args | nindent 6 }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {memory: 256Mi}
      securityContext:
        {{- include "efaas.containerSecurity" .root | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- with .mounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    volumes:
    - {name: tmp, emptyDir: {sizeLimit: 16Mi}}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* An account with the rights of one job. dict root, name, hook, rules (cluster's), local (namespace's) */}}
{{- define "efaas.account" -}}
{{- $labels := include "efaas.labels" (dict "root" .root "component" .name) }}
{{- $annotations := "" }}
{{- with .hook }}
{{- $annotations = printf "helm.sh/hook: %s\nhelm.sh/hook-weight: \"-10\"\nhelm.sh/hook-delete-policy: before-hook-creation,hook-succeeded" . }}
{{- end }}
{{- $subjects := list (dict "kind" "ServiceAccount" "name" .name "namespace" .root.Release.Namespace) }}
{{- $metadata := printf "name: %s\nlabels:\n%s" .name ($labels | indent 2) }}
{{- if $annotations }}{{ $metadata = printf "%s\nannotations:\n%s" $metadata ($annotations | indent 2) }}{{ end }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $metadata | nindent 2 }}
automountServiceAccountToken: false
{{- range $prefix, $rules := dict "Cluster" .rules "" .local }}
{{- if $rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}Role
metadata:
  {{- $metadata | nindent 2 }}
rules:
{{- toYaml $rules | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}RoleBinding
metadata:
  {{- $metadata | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $prefix }}Role, name: {{ $.name }}}
subjects:
{{- toYaml $subjects | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}
