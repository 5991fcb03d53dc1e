{{/* Labels of every object: (dict "root" $ "component" "ledger"). */}}
{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: tollgate
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which pods are found. They never change. */}}
{{- define "tollgate.selector" -}}
app.kubernetes.io/name: tollgate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* One of our own images: (dict "root" $ "name" "ledger"). */}}
{{- define "tollgate.image" -}}
{{ .root.Values.images.repository }}/tollgate-{{ .name }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "tollgate.masterKeySecret" -}}
{{ .Values.masterKey.existingSecret | default (printf "%s-master-key" .Release.Name) }}
{{- end }}

{{/* The gateway, from within the cluster: where its Service is depends on who makes it. */}}
{{- define "tollgate.inside" -}}
{{- $port := int .Values.gateway.service.port -}}
{{- $services := dict
  "envoy" (printf "%s-gateway.%s" .Release.Name .Release.Namespace)
  "envoy-gateway" (printf "%s-gateway.%s" .Release.Name .Values.gateway.envoyGateway.namespace)
  "istio" (printf "%s-gateway-%s.%s" .Release.Name .Values.gateway.istio.className .Release.Namespace)
-}}
https://{{ get $services .Values.gateway.kind }}.svc{{ if ne $port 443 }}:{{ $port }}{{ end }}
{{- end }}

{{/* The gateway's pods, as a peer in a NetworkPolicy. */}}
{{- define "tollgate.gatewayPeer" -}}
{{- $name := printf "%s-gateway" .Release.Name -}}
{{- if eq .Values.gateway.kind "envoy-gateway" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .Values.gateway.envoyGateway.namespace | quote }}
  podSelector:
    matchLabels:
      gateway.envoyproxy.io/owning-gateway-namespace: {{ .Release.Namespace }}
      gateway.envoyproxy.io/owning-gateway-name: {{ $name }}
{{- else if eq .Values.gateway.kind "istio" -}}
- podSelector:
    matchLabels:
      gateway.networking.k8s.io/gateway-name: {{ $name }}
{{- else -}}
- podSelector:
    matchLabels:
      {{- include "tollgate.selector" (dict "root" . "component" "gateway") | nindent 6 }}
{{- end }}
{{- end }}

{{/* What clients are told. */}}
{{- define "tollgate.baseURL" -}}
{{ .Values.gateway.baseURL | default (include "tollgate.inside" .) | trimSuffix "/" }}
{{- end }}

{{/* The name by which clients reach the gateway, if it is not its Service's. */}}
{{- define "tollgate.gatewayName" -}}
{{- if or .Values.gateway.baseURL (ne .Values.gateway.kind "envoy") -}}
{{ (urlParse (include "tollgate.baseURL" .)).hostname }}
{{- end }}
{{- end }}

{{/*
Values that a release may lack: `helm upgrade --reuse-values` takes all of them from the release before, which knew fewer. What is asked
here is .Values.certificates.certManager and .Values.gateway.tls.authorities, with their defaults.
*/}}
{{- define "tollgate.certManager" -}}
{{- $given := (.Values.certificates | default dict).certManager | default dict }}
{{- mergeOverwrite (dict "enabled" false "issuerRef" (dict "name" "" "kind" "Issuer")) $given | toYaml }}
{{- end }}

{{- define "tollgate.clientAuthorities" -}}
{{- mergeOverwrite (dict "configMap" "" "entry" "ca.crt") (.Values.gateway.tls.authorities | default dict) | toYaml }}
{{- end }}

{{/* Whether something else ends TLS at gateway.baseURL, so that its certificate is the one that clients see. `true`, or nothing. */}}
{{- define "tollgate.endsInFront" -}}
{{- with .Values.gateway }}
{{- if and .baseURL (or .ingress.enabled (and .route.enabled (not .route.passthrough))) -}}
true
{{- end }}
{{- end }}
{{- end }}

{{/* By whom clients know what they see at gateway.baseURL: `own`, `public`, or a file in the operator's pod. */}}
{{- define "tollgate.gatewayAuthorities" -}}
{{- $authorities := include "tollgate.clientAuthorities" . | fromYaml }}
{{- $foreign := or .Values.gateway.tls.secret (include "tollgate.endsInFront" .) | empty | not }}
{{- if and $authorities.configMap (not $foreign) }}
{{- fail "gateway.tls.authorities: clients see the operator's own certificate, which is known by the operator's own authority. Set gateway.tls.secret, or gateway.baseURL to the address of gateway.ingress or gateway.route; or leave gateway.tls.authorities.configMap empty" }}
{{- end }}
{{- if $authorities.configMap -}}
/run/tollgate/authorities/{{ $authorities.entry }}
{{- else -}}
{{ $foreign | ternary "public" "own" }}
{{- end }}
{{- end }}

{{/* What every pod of ours is: nobody in particular, and nothing that it does not need. */}}
{{- define "tollgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "tollgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Head of a pod: (dict "root" $ "component" "ledger" "values" .Values.ledger). */}}
{{- define "tollgate.podMetadata" -}}
labels:
  {{- include "tollgate.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod may run, and what opens the registry. */}}
{{- define "tollgate.podPlace" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Pods of a component on different nodes where there are some. */}}
{{- define "tollgate.spread" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "tollgate.selector" . | nindent 12 }}
{{- end }}

{{/* Where requests go: as told, or all to the built-in mock provider. */}}
{{- define "tollgate.providers" -}}
{{- /* Envoy Gateway reads no other entry. */}}
{{- $only := eq .Values.gateway.kind "envoy-gateway" | ternary (dict "entry" "credential") (dict) }}
{{- $entry := $only.entry | default "api-key" }}
{{- if .Values.providers }}
{{- $providers := dict }}
{{- range $provider, $settings := .Values.providers }}
{{- $_ := set $providers $provider (merge (dict) $settings $only) }}
{{- end }}
{{- toYaml $providers }}
{{- else }}
{{- $mock := printf "%s-mock-provider" .Release.Name }}
{{- $settings := dict "secret" $mock "entry" $entry "url" (printf "http://%s.%s.svc:4010" $mock .Release.Namespace) }}
{{- toYaml (dict "anthropic" $settings "openai" $settings "gemini" $settings) }}
{{- end }}
{{- end }}

{{/* Settings of the filter, in the gateway and in sidecars. A ledger on one volume takes some seconds to be started anew: requests wait. */}}
{{- define "tollgate.filter" -}}
{{- $wait := ternary 15000 5000 (eq .Values.ledger.store "sqlite") }}
{{- toYaml (merge (dict) .Values.gateway.filter (dict "ledger_wait_ms" $wait "buffered_bytes_max" 134217728)) }}
{{- end }}

{{/* What the webhook, and `tollgate-operator inject`, give a pod. */}}
{{- define "tollgate.sidecar" -}}
filterImage: {{ include "tollgate.image" (dict "root" . "name" "filter") }}
envoyImage: {{ .Values.images.envoy }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
{{- /* By the way of everybody else: what is said of the certificate is said of the one that is seen there. */}}
ingress: {{ include "tollgate.baseURL" . }}
authoritiesWithKey: {{ ne (include "tollgate.gatewayAuthorities" .) "public" }}
ledger: {{ .Release.Name }}-ledger.{{ .Release.Namespace }}.svc:4001
directNamespaces: {{ toJson .Values.injection.directNamespaces }}
{{- if .Values.injection.directNamespaces }}
providers:
  {{- include "tollgate.providers" . | nindent 2 }}
{{- if .Values.gateway.authorities.configMap }}
authorities: {{ toJson .Values.gateway.authorities }}
{{- end }}
{{- end }}
filter:
  {{- include "tollgate.filter" . | nindent 2 }}
resources:
  {{- toYaml .Values.injection.resources | nindent 2 }}
{{- end }}
