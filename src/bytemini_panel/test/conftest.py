import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the browser and the talking robot


@pytest.fixture(scope="module")
def robot():
    pytest.importorskip("bytemini_msgs.msg", reason="the workspace is not built: ./bytemini setup")
    import rclpy
    from bytemini_core.domain import private_domain
    from robot import Spinner, TalkingRobot

    with private_domain():
        rclpy.init()
        node = TalkingRobot()
        spinner = Spinner(node)
        yield node
        spinner.stop()
        node.destroy_node()
        rclpy.try_shutdown()
