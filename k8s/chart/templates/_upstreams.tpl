{{/*
Where requests go, as a list: what other people's gateways are told, as envoy/ingress.yaml tells it to the chart's own. The order of
the list is that of the routes.
*/}}
{{- define "tollgate.upstreams" -}}
{{- $known := dict
  "anthropic" (dict "url" "https://api.anthropic.com" "begins" "/v1/" "header" "x-api-key")
  "openai" (dict "url" "https://api.openai.com" "begins" "/v1/" "header" "authorization")
  "gemini" (dict "url" "https://generativelanguage.googleapis.com" "begins" "/v1/" "header" "authorization" "rewrite" "/v1beta/openai/")
}}
{{- $upstreams := list }}
{{- range $provider, $settings := include "tollgate.providers" . | fromYaml }}
{{- $one := get $known $provider }}
{{- $url := urlParse ($settings.url | default $one.url) }}
{{- $tls := eq $url.scheme "https" }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" $tls) | int }}
{{- $standard := eq $port (ternary 443 80 $tls) }}
{{- /* Base URLs are written with and without the version; paths bring it themselves. */}}
{{- $path := $url.path | trimSuffix "/" | trimSuffix "/v1" }}
{{- $upstream := dict
  "provider" $provider
  "secret" $settings.secret
  "entry" ($settings.entry | default "")
  "host" $url.hostname
  "port" $port
  "tls" $tls
  "authority" (ternary $url.hostname (printf "%s:%d" $url.hostname $port) $standard)
}}
{{- /* Anthropic's OpenAI-compatible path takes the key as OpenAI's do. */}}
{{- if eq $provider "anthropic" }}
{{- $exact := "/v1/chat/completions" }}
{{- $upstreams = append $upstreams (merge (dict "name" "anthropic-openai" "header" "authorization" "match" (dict "path" $exact) "rewrite" (ternary (printf "%s%s" $path $exact) "" (ne $path ""))) $upstream) }}
{{- end }}
{{- $rewrite := $one.rewrite | default "" }}
{{- if $path }}
{{- $rewrite = printf "%s%s" $path ($one.rewrite | default $one.begins) }}
{{- end }}
{{- $upstreams = append $upstreams (merge (dict "name" $provider "header" $one.header "match" (dict "prefix" $one.begins) "rewrite" $rewrite) $upstream) }}
{{- end }}
{{- toYaml $upstreams }}
{{- end }}

{{/* What only the chart's own gateway does. */}}
{{- define "tollgate.foreignGateway" -}}
{{- $gateway := .Values.gateway }}
{{- $asked := dict "gateway.exposeAdmin" $gateway.exposeAdmin "gateway.ingress.enabled" $gateway.ingress.enabled "gateway.route.enabled" $gateway.route.enabled }}
{{- range $name, $is := $asked }}
{{- if and $is (ne $gateway.kind "envoy") }}
{{- fail (printf "%s: only of the kind envoy; with %s the Gateway itself is what clients reach" $name $gateway.kind) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The image of the filter, as they fetch it. */}}
{{- define "tollgate.foreignFilterImage" -}}
{{ .Values.gateway.filterImage | default (include "tollgate.image" (dict "root" . "name" "filter")) }}
{{- end }}

{{/* Envoy's route to one of them: (dict "upstream" ... "cluster" "its name"). */}}
{{- define "tollgate.upstreamRoute" -}}
name: {{ .upstream.name }}
match:
  {{- toYaml .upstream.match | nindent 2 }}
  # The filter's word, after its decision. No header of a client's can say it.
  filter_state: [{ key: wasm.tollgate.route, string_match: { exact: {{ .upstream.provider }} } }]
route:
  cluster: {{ .cluster }}
  host_rewrite_literal: {{ .upstream.authority }}
  {{- with .upstream.rewrite }}
  prefix_rewrite: {{ . }}
  {{- end }}
  # Streams may last an hour, and be silent as long as an agent waits. A billed request is never repeated: no retry policy.
  timeout: 0s
  idle_timeout: 900s
  max_stream_duration: { max_stream_duration: 3600s }
{{- end }}

{{/* Settings of the filter for a gateway of somebody else's: (dict "root" $ "cluster" "of the ledger"). */}}
{{- define "tollgate.foreignFilter" -}}
{{- if gt (len .cluster) 117 }}
{{- fail (printf "the names of the release and its namespace are too long: the filter takes a cluster of 117 bytes, not %s" .cluster) }}
{{- end }}
{{- $providers := list }}
{{- range include "tollgate.providers" .root | fromYaml | keys | sortAlpha }}
{{- $providers = append $providers . }}
{{- end }}
{{- $own := include "tollgate.filter" .root | fromYaml }}
{{- toYaml (merge (dict "ledger_cluster" .cluster "providers" $providers) $own) }}
{{- end }}

{{/* What Envoy answers when a provider cannot be reached, or breaks off before its answer: the shape of the API, as in envoy/ingress.yaml. */}}
{{- define "tollgate.localReplies" -}}
{{- $away := dict "flags" (list "UH" "UF" "UC" "UR" "UT" "UO" "LR" "UPE") }}
{{- $message := "The upstream could not be reached, or broke off; try again later." }}
mappers:
  - filter:
      and_filter:
        filters:
          - response_flag_filter: {{ toJson $away }}
          - header_filter: { header: { name: ":path", string_match: { prefix: /v1/messages } } }
    body_format_override:
      json_format:
        type: error
        error: { type: api_error, message: {{ $message | quote }} }
  - filter: { response_flag_filter: {{ toJson $away }} }
    body_format_override:
      json_format:
        error: { message: {{ $message | quote }}, type: server_error, code: upstream_unavailable }
{{- end }}

{{/* A line of the access log: no query (a key may stand in it), no header that carries a credential, no body. */}}
{{- define "tollgate.accessLog" -}}
at: "%START_TIME%"
method: "%REQ(:METHOD)%"
path: "%PATH(NQ)%"
status: "%RESPONSE_CODE%"
details: "%RESPONSE_CODE_DETAILS%"
flags: "%RESPONSE_FLAGS%"
request: "%RESP(X-TOLLGATE-REQUEST-ID)%"
denial: "%RESP(X-TOLLGATE-DENIAL)%"
upstream: "%UPSTREAM_CLUSTER%"
bytes_in: "%BYTES_RECEIVED%"
bytes_out: "%BYTES_SENT%"
duration_ms: "%DURATION%"
{{- end }}
