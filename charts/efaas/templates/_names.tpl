{{/* All names are here: there is one installation in a cluster, because CRDs, scheduler's name and node labels are the cluster's. */}}
{{- define "efaas.labels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/part-of: efaas
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "efaas.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The image of a part: dict "root" . "part" "operator". */}}
{{- define "efaas.image" -}}
{{- $images := .root.Values.images -}}
{{- with $images.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ get $images .part }}:{{ $images.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "efaas.kubeSchedulerImage" -}}
{{- with .Values.scheduler.kubeScheduler }}{{ .image }}:{{ .tag | default (regexReplaceAll "[-+].*$" $.Capabilities.KubeVersion.Version "") }}{{ end }}
{{- end }}

{{- define "efaas.gateway.host" -}}efaas-gateway.{{ .Release.Namespace }}.svc{{- end }}
{{- define "efaas.gateway.url" -}}{{ if eq (include "efaas.tls" .) "true" }}https{{ else }}http{{ end }}://{{ include "efaas.gateway.host" . }}:8080{{- end }}

{{/* "true" if servers have certificates. */}}
{{- define "efaas.tls" -}}{{ ne .Values.tls.mode "Off" }}{{- end }}
