"""Writes envoy/sidecar.yaml from envoy/ingress.yaml: the same filter, upstreams and limits, in the agent's own pod.

Run by `make generate`. Each replacement must find its place exactly once, so that a change of the ingress that the
sidecar does not follow is an error here and not a surprise there.
"""

import pathlib
import sys

ENVOY = pathlib.Path(__file__).resolve().parent.parent / "envoy"

HEAD = """\
# Envoy as a sidecar: the agent in the same pod reaches it on loopback, and holds no key. Written by `make generate` from
# ingress.yaml; edit that one.
#
# Runs as it is, beside
#   /run/tollgate/tollgate_filter.wasm        the filter
#   /run/tollgate/secrets/*.json              the providers' keys, and virtual-key.json; see envoy/README.md
#   /run/tollgate/ledger/{tls.crt,tls.key,ca.crt}   the certificate that the ledger knows this sidecar by
#
#   envoy -c envoy/sidecar.yaml --concurrency 1
"""

KEY_FILTERS = """\
                http_filters:
                  # Whatever the agent sends as its key is a placeholder: the pod's virtual key takes its place.
                  - name: placeholder
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                      mutations:
                        request_mutations: [{ remove: x-api-key }, { remove: api-key }, { remove: x-goog-api-key }]
                  - name: virtual-key
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
                      overwrite: true
                      credential:
                        name: envoy.http.injected_credentials.generic
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                          header: authorization
                          credential: { name: virtual-key, sds_config: { path_config_source: { path: /run/tollgate/secrets/virtual-key.json } } }
"""

LEDGER_TLS = """\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: tollgate-ledger
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates:
              - { certificate_chain: { filename: /run/tollgate/ledger/tls.crt }, private_key: { filename: /run/tollgate/ledger/tls.key } }
            validation_context:
              trusted_ca: { filename: /run/tollgate/ledger/ca.crt }
              match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: tollgate-ledger } }]
"""


def replace(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        sys.exit(f"ingress.yaml has changed; found {text.count(old)} times: {old!r}")
    return text.replace(old, new)


def sidecar(ingress: str) -> str:
    head, body = ingress.split("node:", 1)
    text = HEAD + "node:" + body
    text = replace(text, "    - name: ingress\n", "    - name: sidecar\n")
    text = replace(text, "                stat_prefix: ingress\n", "                stat_prefix: sidecar\n")
    text = replace(text, "                  name: ingress\n", "                  name: sidecar\n")
    text = replace(text, "                http_filters:\n                  - name: tollgate\n", KEY_FILTERS + "                  - name: tollgate\n")
    text = replace(text, "    - name: ledger\n      type: STATIC\n", "    - name: ledger\n      type: STRICT_DNS\n" + LEDGER_TLS)
    return replace(text, "{ address: 127.0.0.1, port_value: 4001 }", "{ address: tollgate-ledger, port_value: 4001 }")


if __name__ == "__main__":
    (ENVOY / "sidecar.yaml").write_text(sidecar((ENVOY / "ingress.yaml").read_text()))
