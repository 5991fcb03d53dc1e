# Sourced by what runs Tollgate: builds the parts and says in the environment where they are.
# shellcheck shell=bash
"$make/build"
export TOLLGATE_BIN_DIR=$bin
export TOLLGATE_FILTER=$bin/tollgate_filter.wasm
export TOLLGATE_ENVOY_CONFIG=${TOLLGATE_ENVOY_CONFIG:-$root/envoy/ingress.yaml}
TOLLGATE_ENVOY=${TOLLGATE_ENVOY:-$("$make/envoy")}
export TOLLGATE_ENVOY
