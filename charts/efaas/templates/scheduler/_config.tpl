{{/* The extender's configuration file; `efaas_scheduler.configuration` reads it strictly. */}}
{{- define "efaas.scheduler.config" -}}
listen: 127.0.0.1:8888
metricsListen: ":8080"
logLevel: {{ .Values.scheduler.logLevel }}
{{- with .Values.weights }}
weights:
  {{- range $namespace, $weight := . }}
  {{ $namespace }}: {{ $weight | int }}
  {{- end }}
{{- end }}
{{- with .Values.scheduler.settings }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* As `efaas-scheduler profile` prints it; a test keeps both equal. */}}
{{- define "efaas.scheduler.profile" -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {qps: 200, burst: 200}
percentageOfNodesToScore: 100
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 5
profiles:
- schedulerName: efaas-scheduler
  plugins: {score: {disabled: [{name: "*"}]}}
leaderElection:
  leaderElect: true
  resourceName: efaas-scheduler
  resourceNamespace: {{ .Release.Namespace }}
extenders:
- urlPrefix: http://127.0.0.1:8888
  filterVerb: filter
  prioritizeVerb: prioritize
  preemptVerb: preempt
  weight: 1
  httpTimeout: 5s
  nodeCacheCapable: true
  ignorable: false
  managedResources:
  - {name: efaas.dev/session, ignoredByScheduler: false}
{{- end }}
