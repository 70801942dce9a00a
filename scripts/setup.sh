#!/bin/sh
# Make .venv hold muniment and what a task needs: "core" to use it, "dev" to work on it. "fonts"
# are the fonts in which the viewer is pictured.
# Usage: scripts/setup.sh core|dev|fonts [PYTHON]      Does nothing when there is nothing to do.
set -eu

task=$1
wanted=${2:-}
venv=.venv
cd "$(dirname "$0")/.."

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
unset PYTHONHOME PYTHONPATH

fail() {
    echo "make: $1" >&2
    exit 1
}

is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
}

find_python() {
    if [ -n "$wanted" ]; then
        is_suitable "$wanted" || fail "PYTHON=$wanted is not a Python 3.11 or newer that runs here"
        echo "$wanted"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if is_suitable "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3"
}

# Debian's python3 has no ensurepip unless python3-venv is installed; its pip can stand in.
make_venv() {
    "$1" -m venv "$venv" >/dev/null 2>&1 && return
    rm -rf "$venv"
    "$1" -m venv --without-pip "$venv" >/dev/null 2>&1 &&
        "$1" -m pip -qq --python "$venv/bin/python" install pip >/dev/null 2>&1 && return
    rm -rf "$venv"
    fail "$1 can't make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
}

pip_install() {
    "$venv/bin/python" -m pip install -qq "$@" ||
        fail "the packages could not be installed (see above); is the network there?"
}

# Debian's packages that are missing, if they may be installed: "install_packages WHY NAME...".
# Without them, whatever needs them says so.
install_packages() {
    why=$1
    shift
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$why needs $*; on Debian and Ubuntu: apt-get install $*" >&2
        return
    fi
    echo "Installing $*, which $why needs (once)"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq --no-install-recommends "$@"; } \
        >/dev/null 2>&1 || echo "make: could not be installed: $*; $why needs it" >&2
}

# What the tests start.
install_programs() {
    missing=
    PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null || missing=pgbouncer
    [ -n "${MUNIMENT_TEST_CHROMIUM:-}" ] || command -v chromium >/dev/null ||
        missing="$missing chromium"
    command -v wrk >/dev/null || missing="$missing wrk"
    # shellcheck disable=SC2086  # each word is a package
    [ -z "$missing" ] || install_packages "make test" $missing
}

# In which names of any script are pictured as most people see them.
install_fonts() {
    for font in "Noto Sans" "Noto Sans CJK SC" "Noto Sans Arabic" "Noto Sans Mono"; do
        if ! fc-list "$font" 2>/dev/null | grep -q .; then
            install_packages "make screenshots" \
                fontconfig fonts-noto-core fonts-noto-cjk fonts-noto-mono
            return
        fi
    done
}

# A stamp names the directory too: an environment that was moved or copied is made anew.
state="$(pwd) $(cksum <pyproject.toml)"
is_installed() {
    [ "$(cat "$venv/.$1-is-installed" 2>/dev/null)" = "$state" ]
}
is_elsewhere() {
    cat "$venv"/.*-is-installed 2>/dev/null | grep -qv "^$(pwd) "
}

if [ "$task" = fonts ]; then
    install_fonts
    exit 0
fi
if ! is_suitable "$venv/bin/python" || is_elsewhere; then
    rm -rf "$venv"
elif [ -n "$wanted" ]; then
    python=$(find_python)
    [ "$(version_of "$python")" = "$(version_of "$venv/bin/python")" ] || rm -rf "$venv"
fi
if [ "$task" = dev ]; then
    install_programs
fi
if is_installed "$task" || { [ "$task" = core ] && is_installed dev; }; then
    exit 0
fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with Python $(version_of "$python")"
    rm -rf "$venv"
    make_venv "$python"
fi

case $task in
core)
    echo "Installing muniment and the packages it needs (once)"
    pip_install -e .
    ;;
dev)
    echo "Installing muniment and what its tests need (once)"
    pip_install -e ".[dev]"
    ;;
*)
    fail "scripts/setup.sh installs core, dev or fonts, not $task"
    ;;
esac
echo "$state" >"$venv/.$task-is-installed"
