# Sourced by what tests on a Kubernetes cluster: says in the environment where the programs for it are, and makes the images.
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

# The images, and their programs for whatever else is tested: one release build is enough. Linked in a third of the time; what is
# linked is the same.
test_images() {
    WITHOUT_BILLS=1 CARGO_PROFILE_RELEASE_LTO=off "$make/images" || return
    export TOLLGATE_PROGRAMS=${CARGO_TARGET_DIR:-$root/target}/$(uname -m)-unknown-linux-musl/release
}
