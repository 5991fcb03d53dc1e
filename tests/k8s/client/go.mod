module tollgate.dev/tests/k8s/client

go 1.26
