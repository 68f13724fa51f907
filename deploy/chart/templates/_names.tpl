{{- /* What the release's own objects are called: navarch, and for other revisions navarch-REVISION. */ -}}
{{- define "navarch.name" -}}
{{- if eq .Values.revision "default" }}navarch{{ else }}navarch-{{ .Values.revision }}{{ end -}}
{{- end }}

{{- define "navarch.service" -}}
{{- if eq .Values.revision "default" }}{{ .Values.service.name }}{{ else }}{{ .Values.service.name }}-{{ .Values.revision }}{{ end -}}
{{- end }}

{{- define "navarch.serviceAccount" -}}
{{- default (include "navarch.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "navarch.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- /* app: istiod and istio.io/rev are what Istio's tools look for. */ -}}
{{- define "navarch.selector" -}}
app: istiod
app.kubernetes.io/name: navarch
istio.io/rev: {{ .Values.revision }}
{{- end }}

{{- define "navarch.labels" -}}
{{ include "navarch.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: navarch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "navarch.metadata" -}}
name: {{ include "navarch.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "navarch.labels" . | nindent 2 }}
{{- end }}
