#!/usr/bin/env bash
# Install packages into an environment: by uv, which takes a tenth of pip's time, or by pip where uv cannot.
#
#   pip_install.sh PYTHON ARGUMENT...      PYTHON of the environment; the arguments are those of `pip install`
set -uo pipefail
python=$1
shift

by_pip() {
  exec "$python" -m pip --disable-pip-version-check install --quiet "$@"
}

"$python" -m uv --version >/dev/null 2>&1 ||
  "$python" -m pip --disable-pip-version-check install --quiet uv 2>/dev/null || by_pip "$@"

# pip's own configuration of this machine says where packages come from; uv does not read it.
mapfile -t sources < <("$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, sys
names = {"find-links": "--find-links", "extra-index-url": "--extra-index-url", "index-url": "--default-index"}
seen = set()
for line in sys.stdin:
    key, _, value = line.strip().partition("=")
    option = names.get(key.rpartition(".")[2])
    if key.endswith(".no-index") and ast.literal_eval(value).lower() in ("1", "true", "yes", "on"):
        print("--no-index")
    for place in ast.literal_eval(value).split() if option else ():
        if (option, place) not in seen:
            seen.add((option, place))
            print(option, place, sep="\n")
')

# As pip does; else Python does it at the first import, where it is let.
compile=${PYTHONDONTWRITEBYTECODE:+--compile-bytecode}
"$python" -m uv pip install --quiet --python "$python" --index-strategy unsafe-best-match $compile \
  ${sources[@]+"${sources[@]}"} "$@" || by_pip "$@"
