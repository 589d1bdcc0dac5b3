"""Lifecycle nodes that start by themselves where nothing manages them, and that a wrong request does not bring down."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from bytemini_core.node import parameter


class ManagedNode(LifecycleNode):  # type: ignore[misc]
    """A lifecycle node with the read-only parameter `autostart`.

    A transition that the present state does not have is refused (rclpy raises out of the service, which ends the node).
    """

    def __init__(self, name: str, **options: Any) -> None:
        """Make a node called `name`; `options` are those of rclpy's."""
        super().__init__(name, **options)
        self.autostart = parameter(self, "autostart", True, "configure and activate at the start, unasked")
        self._serve_change = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return self._serve_change(request, response)
        except _rclpy.RCLError:
            wanted = request.transition.label or request.transition.id
            state = self._state_machine.current_state[1]
            self.get_logger().warning(f"refused: there is no transition {wanted} from state '{state}'")
            response.success = False
            return response

    def activate(self) -> None:
        """Configure and activate.

        Raises:
            ValueError: it could not be; the log says why.
        """
        for step, transition in (("configure", self.trigger_configure), ("activate", self.trigger_activate)):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise ValueError(f"{self.get_name()} could not {step}: the line above says why")
