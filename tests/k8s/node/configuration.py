"""What the programs of a node read: keys, tokens, and the files of configuration/ with the node's own places filled in."""

import pathlib
import secrets
import string
import subprocess

import trustme

TEMPLATES = pathlib.Path(__file__).with_name("configuration")

API_PORT = 6443
# With these names and groups Kubernetes' own roles fit, so that every program may do what it may do anywhere.
USERS = {
    "admin": ("admin", "system:masters"),
    "kubelet": ("system:node:node", "system:nodes"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "coredns": ("system:coredns", ""),
}
API_NAMES = (
    "localhost",
    "127.0.0.1",
    "10.99.0.1",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def write(state: pathlib.Path, cgroup: str, pause: str, outside_port: int) -> pathlib.Path:
    """Writes it all, and gives the kubeconfig for whoever comes from outside, by that port."""
    folder = state / "configuration"
    folder.mkdir()
    keys(state / "keys")
    (folder / "no-resolver").touch()
    values = {"state": state, "cgroup": cgroup, "pause": pause, "snapshotter": snapshotter(state)}
    for template in TEMPLATES.rglob("*"):
        if template.is_file() and template.name != "kubeconfig":
            target = folder / template.relative_to(TEMPLATES)
            target.parent.mkdir(exist_ok=True)
            target.write_text(fill(template, **values))

    lines = []
    for name, (user, group) in USERS.items():
        token = secrets.token_hex(16)
        lines.append(",".join([token, user, user, *([group] if group else [])]) + "\n")
        kubeconfig(folder / f"{name}.kubeconfig", state, API_PORT, user, token)
        if name == "admin":
            kubeconfig(state / "kubeconfig", state, outside_port, user, token)
    (folder / "tokens.csv").write_text("".join(lines))
    return state / "kubeconfig"


def fill(template: pathlib.Path, **values) -> str:
    return string.Template(template.read_text()).substitute(values)


def kubeconfig(path: pathlib.Path, state: pathlib.Path, port: int, user: str, token: str) -> None:
    path.write_text(fill(TEMPLATES / "kubeconfig", state=state, port=port, user=user, token=token))


def keys(folder: pathlib.Path) -> None:
    """The authority, what the API server shows, and what it signs the tokens of service accounts with."""
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, names in (("api", API_NAMES), ("accounts", ("accounts",))):
        pair = authority.issue_cert(*names)
        pair.private_key_pem.write_to_path(folder / f"{name}.key")
        pair.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")


def snapshotter(state: pathlib.Path) -> str:
    """Where overlays cannot be stacked on what holds the folder, the files of images are copied."""
    layers = [state / "overlay" / name for name in ("lower", "upper", "work", "merged")]
    for layer in layers:
        layer.mkdir(parents=True)
    lower, upper, work, merged = layers
    mount = ["mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", str(merged)]
    tried = subprocess.run(["unshare", "--mount", *mount], stderr=subprocess.DEVNULL, check=False)
    return "overlayfs" if tried.returncode == 0 else "native"
