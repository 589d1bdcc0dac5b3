#!/usr/bin/env bash
# Read a dataset with the real lerobot loader: ./tools/check_lerobot.sh [DIR] [--json FILE], or --install and no more
#
# DIR: a dataset of ours; without it one is written, whose pictures are known, so that the error of the codec is told.
# The loader has a Python environment of its own (.setup/lerobot, made at first use, about a minute, network needed):
# lerobot 0.4.4 is the last release for Python 3.11, and what it pins does not go with what the stack pins.
# Exit status: 0 read as it should be, 1 not, 3 the environment cannot be made here.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.setup/lerobot
ready=$venv/complete

make_venv() { # each step joined: within a condition bash does not stop at the first that fails
    local pip=("$venv/bin/pip" --disable-pip-version-check install -q)
    rm -rf "$venv" &&
        "$1" -m venv "$venv" &&
        "${pip[@]}" torch==2.13.0 &&
        # Without their dependencies: those of lerobot bring CUDA, cameras and simulators, and torchvision another torch.
        "${pip[@]}" --no-deps lerobot==0.4.4 torchvision==0.25.0 accelerate safetensors &&
        "${pip[@]}" 'datasets>=4,<5' 'huggingface-hub>=0.34.2,<0.36' einops av==15.1.0 jsonlines packaging \
            draccus==0.10.0 deepdiff 'imageio[ffmpeg]' termcolor 'opencv-python-headless<4.13' pyarrow==26.0.1 pandas \
            pyserial &&
        touch "$ready"
}

if [ ! -f "$ready" ]; then
    python=
    for candidate in python3.11 "$root/.venv/bin/python" python3; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "check_lerobot: Python 3.11 is needed for lerobot 0.4.4 and is not installed" >&2
        exit 3
    fi
    echo "making $venv for the real loader" >&2
    mkdir -p "$root/.setup"
    if ! make_venv "$python" 2>"$root/.setup/lerobot.log"; then
        tail -n 3 "$root/.setup/lerobot.log" >&2
        echo "check_lerobot: the environment of the real loader cannot be made here (log: .setup/lerobot.log)" >&2
        exit 3
    fi
fi
[ "${1:-}" != --install ] || exit 0
# Nothing of the stack's own environment may stand in for what this one has; of ours only what needs no ROS.
unset PYTHONHOME LD_LIBRARY_PATH
export PYTHONPATH=$root/src/bytemini_core:$root/src/bytemini_data HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
HF_HOME=$cache "$venv/bin/python" -W ignore "$root/tools/check_lerobot.py" "$@"
