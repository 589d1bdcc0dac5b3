#!/usr/bin/env bash
# Healthy: the last gate of this stack answers. A container that runs something else has no controller and is healthy.
set -eo pipefail
pgrep -f wbc_node >/dev/null || exit 0
# shellcheck source=/dev/null
source /opt/ros/jazzy/setup.bash
# shellcheck source=/dev/null
source "$BYTEMINI_ROOT/.setup/env.sh"
timeout 8 ros2 topic echo --once --no-daemon wbc/status bytemini_msgs/msg/WbcStatus >/dev/null
