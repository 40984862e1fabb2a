{{- define "taffrail.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "taffrail.labels" -}}
{{ include "taffrail.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Names that are the whole cluster's bear the namespace, so that two releases do not meet. */ -}}
{{- define "taffrail.clusterName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{- define "taffrail.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "taffrail.config" -}}
{{- if .Values.config }}{{ .Values.config }}
{{- else }}
{{- if and (eq .Values.preset "demo") (or .Values.nonRoot .Values.logsReadOnly) -}}
{{ fail "the preset demo writes to /var/log/taffrail-out, which neither nonRoot nor logsReadOnly permits: choose another preset, or a config" }}
{{- end }}
{{- if .Values.logsReadOnly }}state_dir = "/var/lib/taffrail"
{{ end }}
{{- .Files.Get (printf "configs/%s.toml" .Values.preset) }}
{{- end }}
{{- end }}

{{- /* What a container of ours may not do, whoever it runs as. */ -}}
{{- define "taffrail.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- end }}

{{- define "taffrail.state" -}}
{{ if .Values.logsReadOnly }}/var/lib/taffrail{{ else }}/var/log/taffrail{{ end }}
{{- end }}
