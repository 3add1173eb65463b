# Sourced by ./check and ./demo: makes the virtual environment and installs Goliath into it.
#
# PYTHON chooses the interpreter. The default one lives in .venv, any other in .venv-<its name>.

PYTHON=${PYTHON:-python3}
VENV=.venv
[[ $PYTHON != python3 ]] && VENV=.venv-$(basename "$PYTHON")

prepare_venv() { # what to install, as pip understands it
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Goliath needs CPython 3.11 or newer, and '$PYTHON' is not;" \
            "name another one: PYTHON=python3.12 $0" >&2
        return 1
    fi
    if [[ ! -x $VENV/bin/pip ]]; then
        echo "Making $VENV with $("$PYTHON" --version)"
        "$PYTHON" -m venv --clear "$VENV" || return 1
    fi
    # Installed anew only when the dependencies may have changed: a second run starts at once.
    local stamp=$VENV/.installed-$(printf '%s' "$1" | tr -c 'a-z\n' '-')
    if [[ ! -e $stamp || pyproject.toml -nt $stamp ]]; then
        echo "Installing $1 into $VENV"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$1" ||
            return 1
        touch "$stamp"
    fi
}
