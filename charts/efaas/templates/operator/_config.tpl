{{/* The operator's configuration file; `efaas_operator.configuration` reads it strictly. */}}
{{- define "efaas.operator.config" -}}
images:
  runner: {{ include "efaas.image" (dict "root" . "part" "runner") }}
  qpu: {{ include "efaas.image" (dict "root" . "part" "qpu") }}
systemNamespace: {{ .Release.Namespace }}
qpuServiceAccount: efaas-qpu
operatorServiceAccount: efaas-operator
runnerServiceAccount: {{ .Values.runner.serviceAccount }}
runner:
  {{- toYaml .Values.runner.resources | nindent 2 }}
qpu:
  {{- toYaml .Values.qpu.resources | nindent 2 }}
qpuStorage: {{ .Values.qpu.storage }}
user: 65532
{{- if .Values.gateway.enabled }}
gateway:
  stream: {{ include "efaas.gateway.host" . }}:8081
  url: {{ include "efaas.gateway.url" . }}
  {{- if eq (include "efaas.tls" .) "true" }}
  caFile: /etc/efaas-tls/ca.crt
  {{- end }}
{{- end }}
{{- if eq (include "efaas.tls" .) "true" }}
qpuTls:
  secret: efaas-qpu-tls
  caFile: /etc/efaas-tls/ca.crt
{{- end }}
weights: efaas-weights
halfLife: {{ .Values.operator.halfLife }}
listen: ":8080"
{{- with .Values.operator.pace }}
pace:
  {{- toYaml . | nindent 2 }}
{{- end }}
logLevel: {{ .Values.operator.logLevel }}
{{- end }}
