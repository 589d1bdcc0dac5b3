#!/usr/bin/env bash
# Source ROS and the workspace, then become what was asked for.
set -eo pipefail
# shellcheck source=/dev/null
source /opt/ros/jazzy/setup.bash
# shellcheck source=/dev/null
[ ! -f "$BYTEMINI_ROOT/.setup/env.sh" ] || source "$BYTEMINI_ROOT/.setup/env.sh"
exec "$@"
