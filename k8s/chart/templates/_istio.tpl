{{/* What stands in Istio's EnvoyFilter: pieces of envoy/ingress.yaml, in its words. */}}

{{/* The filter: (dict "root" $ "ledger" "its host"). */}}
{{- define "tollgate.istioPlugin" -}}
{{- $settings := include "tollgate.foreignFilter" (dict "root" .root "cluster" (printf "outbound|4001||%s" .ledger)) | fromYaml }}
name: tollgate
root_id: tollgate
# A VM that died is replaced; until then its requests get 503. Never open: unmetered is worse than away.
failure_policy: FAIL_RELOAD
reload_config: { backoff: { base_interval: 1s } }
# The request's headers wait for the decision: no stream to the provider before it.
allow_on_headers_stop_iteration: true
vm_config:
  vm_id: tollgate
  runtime: envoy.wasm.runtime.v8
  code:
    remote:
      http_uri: { uri: "oci://{{ include "tollgate.foreignFilterImage" .root }}", cluster: unused, timeout: 30s }
configuration:
  "@type": type.googleapis.com/google.protobuf.StringValue
  value: {{ toJson $settings | quote }}
{{- end }}

{{/* The connection manager. */}}
{{- define "tollgate.istioManager" -}}
# Paths are compared byte for byte by the filter, so nothing is repaired on the way to it.
normalize_path: false
merge_slashes: false
path_with_escaped_slashes_action: REJECT_REQUEST
skip_xff_append: true
scheme_header_transformation: { match_upstream: true }
common_http_protocol_options:
  idle_timeout: 3600s
  max_headers_count: 100
  # Names with underscores come as far as the filter, which reads Codex's `session_id` and takes all of them out.
  headers_with_underscores_action: ALLOW
request_headers_timeout: 10s
# An upload of 32 MB over a slow line; a slower one is an attack.
request_timeout: 300s
# Agents give up after 300 s of silence; models think longer than that only while they send pings.
stream_idle_timeout: 900s
local_reply_config:
  {{- include "tollgate.localReplies" . | nindent 2 }}
access_log:
  - name: envoy.access_loggers.stdout
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
      log_format:
        json_format:
          {{- include "tollgate.accessLog" . | nindent 10 }}
{{- end }}

{{/* A provider's cluster: (dict "root" $ "upstream" ... "name" "its name"). */}}
{{- define "tollgate.istioCluster" -}}
{{- $authorities := "/etc/ssl/certs/ca-certificates.crt" }}
{{- with .root.Values.gateway.authorities }}
{{- if .configMap }}
{{- $authorities = printf "/run/tollgate/authorities/%s" .entry }}
{{- end }}
{{- end }}
name: {{ .name }}
type: STRICT_DNS
dns_lookup_family: V4_PREFERRED
connect_timeout: 5s
circuit_breakers:
  thresholds: [{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }]
{{- if .upstream.tls }}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: {{ .upstream.host }}
    common_tls_context:
      validation_context:
        trusted_ca: { filename: {{ $authorities }} }
        match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: {{ .upstream.host }} } }]
{{- end }}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    {{- if .upstream.tls }}
    auto_config:
      http_protocol_options: {}
      http2_protocol_options: { connection_keepalive: { interval: 60s, timeout: 20s } }
    {{- else }}
    explicit_http_config: { http_protocol_options: {} }
    {{- end }}
    http_filters:
      - name: envoy.filters.http.credential_injector
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
          overwrite: true
          credential:
            name: envoy.http.injected_credentials.generic
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
              header: {{ .upstream.header }}
              {{- if eq .upstream.header "authorization" }}
              header_value_prefix: "Bearer "
              {{- end }}
              credential:
                name: {{ .upstream.name }}
                sds_config: { path_config_source: { path: /etc/tollgate/credentials/{{ .upstream.name }}.json } }
      - name: envoy.filters.http.upstream_codec
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec }
load_assignment:
  cluster_name: {{ .name }}
  endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: {{ .upstream.host }}, port_value: {{ .upstream.port }} } } } }] }]
{{- end }}
