{{- define "navarch.meshConfigMap" -}}
{{- if eq .Values.revision "default" }}istio{{ else }}istio-{{ .Values.revision }}{{ end -}}
{{- end }}

{{- /* All names by which proxies and the API server may ask for this release. */ -}}
{{- define "navarch.serverNames" -}}
{{- $names := list (include "navarch.service" .) }}
{{- if has "default" .Values.tags }}{{ $names = append $names .Values.service.name }}{{ end }}
{{- $full := list }}
{{- range $names }}
{{- $full = append $full (printf "%s.%s.svc" . $.Release.Namespace) }}
{{- $full = append $full (printf "%s.%s" . $.Release.Namespace) }}
{{- $full = append $full (printf "%s.%s.svc.%s" . $.Release.Namespace $.Values.cluster.domain) }}
{{- end }}
{{- join " " $full }}
{{- end }}

{{- define "navarch.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: NAVARCH_REGISTRIES, value: Kubernetes}
- {name: NAVARCH_REVISION, value: {{ .Values.revision | quote }}}
{{- if .Values.plaintext.enabled }}
- {name: NAVARCH_GRPC_ADDRESS, value: ":15010"}
- {name: NAVARCH_ALLOW_PLAINTEXT, value: "true"}
{{- else }}
- {name: NAVARCH_GRPC_ADDRESS, value: "127.0.0.1:15010"}
{{- end }}
- {name: NAVARCH_SECURE_GRPC_ADDRESS, value: ":15012"}
- {name: NAVARCH_SERVER_NAME, value: {{ include "navarch.serverNames" . | quote }}}
- {name: NAVARCH_AUTHORITY_DIR, value: /run/navarch/authority}
- {name: NAVARCH_AUTHORITY_SECRET, value: "true"}
- {name: NAVARCH_HTTP_ADDRESS, value: ":8080"}
- {name: NAVARCH_HTTPS_ADDRESS, value: ":15017"}
- {name: NAVARCH_PATCH_WEBHOOKS, value: "true"}
- {name: NAVARCH_INJECTION_SETTINGS, value: /etc/navarch/injection/settings}
- {name: NAVARCH_CLUSTER_ID, value: {{ .Values.cluster.name | quote }}}
- {name: NAVARCH_DOMAIN_SUFFIX, value: {{ .Values.cluster.domain | quote }}}
- {name: NAVARCH_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
