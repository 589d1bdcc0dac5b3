"""An executor with a fast lane for messages.

rclpy's executors gather every entity of the node, build a wait set and a task for each callback: 0.3 to 0.5 ms,
whatever the callback does. At 200 Hz and three messages a tick that is most of a core. Here one wait set, kept for as
long as the nodes have the same entities, waits for messages, timers, services and clients. Messages (and guard
conditions) are called back at once; for the others the ordinary executor is asked, which serves them and what waits
nowhere else: actions, tasks and events of quality of service.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.event_handler import EventHandler
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.subscription import Subscription

SLOW_LANE_PERIOD = 0.03
"""Seconds between two looks at actions and tasks."""

EVENT_PERIOD = 1.0
"""Seconds between two looks where a node has nothing but events (warnings of incompatible qualities of service)."""


class StreamExecutor(SingleThreadedExecutor):
    """A single-threaded executor whose `spin_once` takes messages without rclpy's bookkeeping.

    Callbacks of subscriptions must be plain functions, not coroutines. One thread calls `spin_once` or `spin`.
    """

    def __init__(self, *, context: Any = None) -> None:
        super().__init__(context=context)
        self._looked = 0.0
        self._entities: list[list[Any]] = []
        self._waiting: Any = None
        self._period = SLOW_LANE_PERIOD

    def spin(self) -> None:
        """Serve until the context ends."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once(timeout_sec=1.0)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Serve what is ready; return after at least one callback, or when `timeout_sec` is over (None: never)."""
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        while True:
            period = SLOW_LANE_PERIOD if self._tasks else self._period
            if time.monotonic() - self._looked >= period:
                if self._serve_others():
                    return
                self._looked = time.monotonic()
            left = SLOW_LANE_PERIOD if end is None else min(SLOW_LANE_PERIOD, end - time.monotonic())
            if self._serve_messages(max(left, 0.0)) or (end is not None and time.monotonic() >= end):
                return

    def _serve_others(self) -> bool:
        """Call back what rclpy finds ready, without waiting; whether there was anything."""
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=0.0)
        except TimeoutException:
            return False
        if isinstance(entity, Subscription):  # the others come first, so that none is left; messages have their lane
            self._looked = time.monotonic()
        handler()
        if (error := handler.exception()) is not None:
            raise error
        return True

    def _gather(self) -> Any:
        """The wait set of all that can be waited for, made anew only when that has changed."""
        nodes = self.get_nodes()
        entities = [
            [entity for node in nodes for entity in getattr(node, kind)]
            for kind in ("subscriptions", "guards", "timers", "clients", "services", "waitables")
        ]
        if entities != self._entities or self._waiting is None:
            subscriptions, guards, timers, clients, services, _ = (len(kind) for kind in entities)
            only_events = all(isinstance(waitable, EventHandler) for waitable in entities[-1])
            self._period = EVENT_PERIOD if only_events else SLOW_LANE_PERIOD
            self._waiting = _rclpy.WaitSet(
                subscriptions, guards + 2, timers, clients, services, 0, self._context.handle
            )
            self._entities = entities
        waiting = self._waiting
        waiting.clear_entities()
        adds = (waiting.add_subscription, waiting.add_guard_condition, waiting.add_timer, waiting.add_client)
        for add, kind in zip((*adds, waiting.add_service), self._entities[:-1], strict=True):
            for entity in kind:
                add(entity.handle)
        for guard in (self._guard, self._sigint_gc):
            waiting.add_guard_condition(guard.handle)
        return waiting

    def _serve_messages(self, timeout: float) -> bool:
        """Wait for anything at most `timeout` seconds and call back; whether there was anything."""
        waiting = self._gather()
        subscriptions, guards, *_ = self._entities
        waiting.wait(round(timeout * 1e9))
        if not self._context.ok():
            raise ExternalShutdownException
        # All of it before the first callback, which may well spin itself.
        messages, triggered = (waiting.get_ready_entities(kind) for kind in ("subscription", "guard_condition"))
        others = any(waiting.get_ready_entities(kind) for kind in ("timer", "client", "service"))
        served = False
        for subscription in subscriptions if messages else ():
            if subscription.handle.pointer in messages:
                with subscription.handle:
                    taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                if taken is not None:
                    served = True
                    subscription.callback(taken[0])
        for guard in guards if triggered else ():
            if guard.handle.pointer in triggered:
                served = True
                guard.callback()
        return (others and self._serve_others()) or served
