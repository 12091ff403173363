#!/usr/bin/env bash
# Make .venv whole: the pinned packages for this kind of machine, this package, the embedded model.
# Each part leaves a stamp of what it was made from, so that repeating does nothing, and what was
# interrupted is done again.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 9<.ci && flock 9 # one at a time: `make -j`, or two terminals

readonly log=.venv/install.log python=.venv/bin/python
say() { printf '%s\n' "$*"; }
die() { say "install: $*" >&2; exit 1; }
hash() { cat "$@" | sha256sum | cut -c1-16; }
is() { [[ -f $1 && $(<"$1") == "$2" ]]; }
step() { # a line to read, then a command whose output goes to the log
    say "  $1"
    "${@:2}" >>"$log" 2>&1 || { tail -n 15 "$log" >&2; die "failed at: $1 (all of it: $log)"; }
}

find_python() { # the lock was made with 3.11, so that comes first
    local name
    for name in python3.11 python3.12 python3 python; do
        "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { say "$name"; return; }
    done
    die "Python 3.11 or 3.12 is needed: apt-get install python3.11 python3.11-venv, or your system's way"
}

make_venv() {
    local base=$1
    rm -rf .venv
    "$base" -m venv .venv >/dev/null 2>&1 && return # Debian's Python lacks ensurepip without its -venv package
    rm -rf .venv
    "$base" -m virtualenv -q .venv 2>/dev/null || virtualenv -q -p "$base" .venv 2>/dev/null ||
        die "$base cannot make environments: apt-get install $("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
}

locked() { # nothing but what the lock file has the hash of
    "$python" -m pip install -qq --disable-pip-version-check --no-deps --require-hashes "$@"
}
of_lock() { grep -E "^($1)==" "$lock" >".venv/$1.txt" && locked "${@:2}" -r ".venv/$1.txt"; }
sources() { # what is not there as a wheel, before torch, which would take part in its building
    of_lock setuptools && of_lock deepspeed --no-build-isolation
}
cpu_torch() { # pip's own configuration may know a CPU build; uv knows where PyTorch keeps them: the bytes are the same
    of_lock torch && return
    locked -r .ci/uv.txt
    .venv/bin/uv pip install --python "$python" --no-deps --require-hashes --torch-backend=cpu -r .venv/torch.txt
}

kind=${KIND:-} # `KIND=gpu make install`: for a cluster's machines without one
[[ -n $kind ]] || { nvidia-smi -L >/dev/null 2>&1 && kind=gpu || kind=cpu; }
readonly kind lock=lock-$kind.txt
packages="$PWD $kind $(hash "$lock")" # scripts in .venv hold its path: a moved tree is installed anew
package=$(hash pyproject.toml)
is .venv/packages "$packages" && is .venv/package "$package" && "$python" -c '' 2>/dev/null && exit 0

if ! is .venv/packages "$packages" || ! "$python" -c '' 2>/dev/null; then
    base=$(find_python)
    say "Installing into .venv for ${kind^^} with $("$base" --version); minutes, once"
    make_venv "$base"
    step "packages that have to be built" sources
    [[ $kind == gpu ]] || step "torch for CPU" cpu_torch
    step "$(grep -c == "$lock") pinned packages of $lock" locked --only-binary=:all: -r "$lock"
    printf %s "$packages" >.venv/packages
fi
step "s2d_ray, from this folder" "$python" -m pip install -qq --no-deps --no-build-isolation -e .
step "the embedded model" "$python" -c 'from s2d_ray.models import EMBEDDED, resolve_model; resolve_model(EMBEDDED)'
printf %s "$package" >.venv/package
say "Installed in $SECONDS s"
