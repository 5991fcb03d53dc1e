# Sourced by what tests on a Kubernetes cluster: says in the environment where the programs and images for it are.
# shellcheck shell=bash
obstacle=
if [ -z "${TOLLGATE_TEST_KUBECONFIG:-}" ]; then
    "$make/container-programs"
    obstacle=$(python3 tests/k8s/node/obstacle.py)
fi
if [ -n "$obstacle" ]; then
    say "no Kubernetes cluster can be started here: $obstacle"
elif [ -z "${TOLLGATE_TEST_KUBECONFIG:-}" ] || ! command -v kubectl helm >/dev/null; then
    TOLLGATE_KUBERNETES=${TOLLGATE_KUBERNETES:-$("$make/kubernetes")}
    export TOLLGATE_KUBERNETES
fi
if [ -z "$obstacle" ]; then
    TOLLGATE_ENVOY=${TOLLGATE_ENVOY:-$("$make/envoy")}
    TOLLGATE_TEST_CLIENT=${TOLLGATE_TEST_CLIENT:-$("$make/test-client")}
    export TOLLGATE_ENVOY TOLLGATE_TEST_CLIENT
fi
