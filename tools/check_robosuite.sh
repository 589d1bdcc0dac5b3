#!/usr/bin/env bash
# The ByteMini and its controller inside robosuite's TwoArmLift: ./tools/check_robosuite.sh [--episodes N] [--json FILE]
#
# Both hands reach for the handles of robosuite's pot and lift it by scripted targets; robosuite's own code says whether
# handles are grasped and the pot is lifted. robosuite has a Python environment of its own (.setup/robosuite, made at
# first use, some minutes, network needed): 1.5.2 does not run with MuJoCo 4, and MuJoCo 3 beside 4 breaks both.
# Exit status: 0 every episode lifted, 1 not, 3 the environment cannot be made here.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.setup/robosuite
ready=$venv/complete

make_venv() {  # one chain: inside a condition `set -e` stops nothing
    rm -rf "$venv" &&
        "$root/.venv/bin/python" -m venv "$venv" &&
        "$venv/bin/pip" --disable-pip-version-check install -q mujoco==3.9.0 robosuite==1.5.2 &&
        "$venv/bin/python" -c 'import robosuite' &&
        touch "$ready"
}

if [ ! -f "$root/.setup/env.sh" ]; then
    echo "check_robosuite: the stack is not set up: run ./bytemini setup" >&2
    exit 3
fi
if [ ! -f "$ready" ]; then
    echo "making $venv for robosuite" >&2
    if ! make_venv 2>"$root/.setup/robosuite.log"; then
        tail -n 3 "$root/.setup/robosuite.log" >&2
        echo "check_robosuite: robosuite's environment cannot be made here (log: .setup/robosuite.log)" >&2
        exit 3
    fi
fi
set +u
. "$root/.setup/env.sh"
exec "$root/.venv/bin/python" "$root/tools/check_robosuite.py" --python "$venv/bin/python" "$@"
