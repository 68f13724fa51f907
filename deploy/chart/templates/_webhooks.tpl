{{- /*
Which pods and objects a revision is asked about. injection/labels.py and docs/injection.md say the same;
tests/deploy holds them to it. The CA bundle is navarch's to fill in.
*/ -}}
{{- define "navarch.injection" }}
- name: {{ .name }}.sidecar-injector.istio.io
  clientConfig:
    service: {name: {{ .service }}, namespace: {{ .namespace }}, path: /inject, port: 443}
  sideEffects: None
  admissionReviewVersions: [v1]
  reinvocationPolicy: Never
  failurePolicy: {{ .failurePolicy }}
  timeoutSeconds: 10
  rules:
    - {operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods], scope: "*"}
  namespaceSelector:
    matchExpressions:
      # Pods that the control plane itself needs must not wait for it.
      - {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, kube-public, kube-node-lease]}
      {{- toYaml .inNamespace | nindent 6 }}
  objectSelector:
    matchExpressions:
      {{- toYaml .onPod | nindent 6 }}
{{- end }}

{{- define "navarch.validation" }}
- name: {{ .name }}.validation.istio.io
  clientConfig:
    service: {name: {{ .service }}, namespace: {{ .namespace }}, path: /validate, port: 443}
  sideEffects: None
  admissionReviewVersions: [v1]
  failurePolicy: {{ .failurePolicy }}
  timeoutSeconds: 10
  rules:
    - operations: [CREATE, UPDATE]
      apiGroups: [networking.istio.io, security.istio.io, telemetry.istio.io, extensions.istio.io]
      apiVersions: ["*"]
      resources: ["*"]
      scope: Namespaced
  objectSelector:
    matchExpressions:
      {{- toYaml .onObject | nindent 6 }}
{{- end }}

{{- /* A configuration for one name, that of the revision or a tag: `name`, and the chart's `root`. */ -}}
{{- define "navarch.injector" }}
{{- $ := .root }}
{{- $name := .name }}
{{- $switch := "istio-injection" }}
{{- $revision := "istio.io/rev" }}
{{- $wish := "sidecar.istio.io/inject" }}
{{- $notRefused := dict "key" $wish "operator" "NotIn" "values" (list "false") }}
{{- $noSwitch := dict "key" $switch "operator" "DoesNotExist" }}
{{- $noRevision := dict "key" $revision "operator" "DoesNotExist" }}
{{- $ours := dict "key" $revision "operator" "In" "values" (list $name) }}
{{- $shared := dict "service" (include "navarch.service" $) "namespace" $.Release.Namespace "failurePolicy" $.Values.injection.failurePolicy }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ if eq $name "default" }}istio-sidecar-injector{{ else }}istio-sidecar-injector-{{ $name }}{{ end }}-{{ $.Release.Namespace }}
  labels:
    {{- include "navarch.labels" $ | nindent 4 }}
    {{- if ne $name $.Values.revision }}
    istio.io/tag: {{ $name }}
    {{- end }}
webhooks:
  {{- include "navarch.injection" (merge (dict "name" "rev.namespace" "inNamespace" (list $noSwitch $ours) "onPod" (list $notRefused)) $shared) | nindent 2 }}
  {{- include "navarch.injection" (merge (dict "name" "rev.object" "inNamespace" (list $noSwitch $noRevision) "onPod" (list $notRefused $ours)) $shared) | nindent 2 }}
  {{- if eq $name "default" }}
  {{- include "navarch.injection" (merge (dict "name" "namespace" "inNamespace" (list (dict "key" $switch "operator" "In" "values" (list "enabled"))) "onPod" (list $notRefused)) $shared) | nindent 2 }}
  {{- include "navarch.injection" (merge (dict "name" "object" "inNamespace" (list $noSwitch $noRevision) "onPod" (list (dict "key" $wish "operator" "In" "values" (list "true")) $noRevision)) $shared) | nindent 2 }}
  {{- end }}
{{- end }}
