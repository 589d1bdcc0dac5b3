"""An executor with a fast lane for messages.

rclpy's executors gather every entity of the node, build a wait set and a task for each callback: 0.3 to 0.5 ms,
whatever the callback does. At 200 Hz and three messages a tick that is most of a core. Here messages (and guard
conditions) have a wait set of their own, in front of the ordinary executor, which still serves timers, services and
actions.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy

SLOW_LANE_PERIOD = 0.03
"""Seconds between two looks at timers, services and actions while messages keep coming."""


class StreamExecutor(SingleThreadedExecutor):
    """A single-threaded executor whose `spin_once` takes messages without rclpy's bookkeeping.

    Callbacks of subscriptions must be plain functions, not coroutines. One thread calls `spin_once` or `spin`.
    """

    def __init__(self, *, context: Any = None) -> None:
        super().__init__(context=context)
        self._looked = 0.0

    def spin(self) -> None:
        """Serve until the context ends."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once(timeout_sec=1.0)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Serve what is ready; return after at least one callback, or when `timeout_sec` is over (None: never)."""
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        while True:
            if time.monotonic() - self._looked >= SLOW_LANE_PERIOD:
                if self._serve_others():
                    return
                self._looked = time.monotonic()
            left = SLOW_LANE_PERIOD if end is None else min(SLOW_LANE_PERIOD, end - time.monotonic())
            if self._serve_messages(max(left, 0.0)) or (end is not None and time.monotonic() >= end):
                return

    def _serve_others(self) -> bool:
        """Call back what rclpy finds ready, without waiting; whether there was anything."""
        try:
            handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0.0)
        except TimeoutException:
            return False
        handler()
        if (error := handler.exception()) is not None:
            raise error
        return True

    def _serve_messages(self, timeout: float) -> bool:
        """Wait for messages at most `timeout` seconds and call back; whether there were any."""
        nodes = self.get_nodes()
        subscriptions = [subscription for node in nodes for subscription in node.subscriptions]
        guards = [guard for node in nodes for guard in node.guards]
        waiting = _rclpy.WaitSet(len(subscriptions), len(guards) + 1, 0, 0, 0, 0, self._context.handle)
        waiting.clear_entities()
        for subscription in subscriptions:
            waiting.add_subscription(subscription.handle)
        for guard in (*guards, self._sigint_gc):
            waiting.add_guard_condition(guard.handle)
        waiting.wait(round(timeout * 1e9))
        if not self._context.ok():
            raise ExternalShutdownException
        ready = waiting.get_ready_entities("subscription")
        served = False
        for subscription in subscriptions:
            if subscription.handle.pointer in ready:
                with subscription.handle:
                    taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                if taken is not None:
                    served = True
                    subscription.callback(taken[0])
        triggered = waiting.get_ready_entities("guard_condition")
        for guard in guards:
            if guard.handle.pointer in triggered:
                served = True
                guard.callback()
        return served
