# shellcheck shell=bash
# What the commands in ci/ share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, through sudo where that is needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "this needs root: $*"
  fi
}

# postgresql_found: whether this machine has a PostgreSQL server the program would find.
postgresql_found() {
  local directory
  for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin; do
    [ -x "$directory/initdb" ] && return 0
  done
  have initdb && have postgres
}

# kind_has NAME: whether there is a kind cluster of this name.
kind_has() { kind get clusters 2>/dev/null | grep -qx -- "$1"; }

# accepted_differences VERSION: flags of `conformance compare`, a line each: what may differ between the embedded cluster and a
# kind cluster of that version of Kubernetes. Of a version that differs in more there is another list.
accepted_differences() {
  local list
  for list in kind "kind-${1%.*}"; do
    [ ! -f "$root/ci/differences/$list.yaml" ] || printf '%s\n' --accepted "ci/differences/$list.yaml"
  done
}

# target_directory: where cargo puts what it builds.
target_directory() {
  say "${CARGO_TARGET_DIR:-$root/target}"
}

# in_memory: lets what tests write be in memory where there is room: their temporary directories. No test of a change is about
# the disk of this machine, and a sixth of the time of the features went there.
in_memory() {
  local free
  free=$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1)
  [ "${free:-0}" -ge 4096 ] && [ -w /dev/shm ] || return 0
  memory=$(mktemp -d /dev/shm/a9s-XXXXXX)
  trap 'rm -rf "$memory"' EXIT
  chmod 1777 "$memory"
  # Some systems execute nothing from there.
  cp "$(type -P true)" "$memory/true" && "$memory/true" && export TMPDIR=$memory
}
