"""A cluster as the tests have it, to try things on: `.make/try-k8s`. It ends with Ctrl-C."""

import os
import pathlib
import signal
import tempfile

import cluster as clusters
import images
import trustme


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    client = pathlib.Path(os.environ["TOLLGATE_TEST_CLIENT"])
    with tempfile.TemporaryDirectory(prefix="tollgate-images-") as name:
        with clusters.start(images.pause(client).write(pathlib.Path(name))) as cluster:
            images.load(cluster, client, pathlib.Path(os.environ["TOLLGATE_ENVOY"]), trustme.CA())
            print(f"export KUBECONFIG={cluster.env['KUBECONFIG']} PATH={cluster.env['PATH'].split(os.pathsep)[0]}:$PATH")
            print(f"{cluster.how_to_load} adds an image. Ctrl-C ends it all.", flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                print("stopping")


if __name__ == "__main__":
    main()
