"""The recorder without ROS: commands and messages in, episodes out.

Messages are handed over in one thread and worked on in another: compressing pictures must not delay the receiving of
states. What waits in between is bounded, and what finds it full is counted as dropped: never silently, never without
end.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bytemini_core.errors import UserError
from bytemini_core.types import NANOSECONDS

from bytemini_data.card import SceneCard, card_of
from bytemini_data.episode import Story, assess, commit, configurations, open_writer, usual_length
from bytemini_data.features import Layout
from bytemini_data.lerobot.video import QUICK
from bytemini_data.lerobot.writer import free_bytes
from bytemini_data.plan import Plan, PlanError
from bytemini_data.quality import FAIL, Quality
from bytemini_data.recorder.session import Answer, Effect, Limits, Session, State
from bytemini_data.recorder.take import Take, recover
from bytemini_data.recorder.topics import NEEDED
from bytemini_data.schedule import Configuration, Scheduler

WAITING = 20_000
"""Messages that may wait to be worked on."""

WAITING_BYTES = 96 * 2**20
"""Bytes that may wait to be worked on: about a second of pictures. States are small, and go on when pictures do not."""


SMALL = 16 * 2**10
"""Bytes of a message that is no picture."""


@dataclass(frozen=True)
class Settings:
    """How to record. `keep_failed`: keep episodes that fail the quality check, so marked; else they are redone."""

    human: bool = False
    namespace: str = ""
    limits: Limits = field(default_factory=Limits)
    keep_failed: bool = False


@dataclass(frozen=True)
class _Message:
    """One message on its way to the worker. `since`: when it was handed over, s of the monotonic clock."""

    take: Take
    topic: str
    cdr: bytes
    stamp: int
    received: int
    since: float


@dataclass
class Load:
    """How the recorder keeps up. `overflow`: topic to messages dropped unrecorded; `lag`: s that one waited at most."""

    overflow: dict[str, int] = field(default_factory=dict)
    lag: float = 0.0


class Recorder:
    """Owns a dataset and the episode that is being recorded for it.

    Thread contract: `command`, `tick` and `receive` are called from one thread; a thread of its own does the work and
    is waited for by none of them. Attributes that both touch are replaced whole.

    Attributes:
        session: where the episode stands.
        card: what to place and do for the next or running episode; None for nothing planned or everything done.
        quality: of the last saved episode, None before.
        notes: for the operator: what was mended, dropped, found wrong.
        load: how it keeps up, of the running or last episode.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        plan: Plan,
        settings: Settings,
        on_card: Callable[[SceneCard], SceneCard] | None = None,
    ) -> None:
        """Open or create the dataset and draw the first configuration.

        Args:
            root: the dataset's folder.
            layout: of the robot; decides rate and size of pictures.
            plan: what is wanted.
            settings: how to record.
            on_card: sets the scene up and gives the card of what then stands there; None where a person does.

        Raises:
            DatasetError: the dataset is of another kind, or written by another process.
            PlanError: the plan cannot be met.
        """
        self.layout, self.plan, self.settings = layout, plan, settings
        self.writer = open_writer(root, layout)
        self.session = Session(settings.limits)
        self.notes: tuple[str, ...] = ()
        mended = str(self.writer.recovery)
        aside = recover(self.writer.root, [str(row.fields.get("source")) for row in self.writer.rows])
        if aside:
            mended += "; " * bool(mended) + f"put {len(aside)} recordings without an episode into {aside[0].parent}"
        if mended:
            self.notes = (mended,)
        self.scheduler = Scheduler(plan, [c for c in configurations(self.writer) if c])
        self.quality: Quality | None = None
        self.load = Load()
        self.card: SceneCard | None = None
        self._on_card = on_card
        self._configuration: Configuration | None = None
        self._take: Take | None = None
        self._heard: dict[str, float] = {}
        self._given = self._worked = 0  # bytes of messages; each is counted by one thread alone
        self._queue: queue.Queue[_Message | Callable[[], None] | None] = queue.Queue()
        self._worker = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._worker.start()
        self._queue.put(self._draw)

    @property
    def episode(self) -> int:
        """Index of the running or next episode."""
        return self.writer.episodes

    @property
    def source(self) -> str:
        """Where the native recording of the running episode is, below the dataset; "" for none."""
        return self._take.source if self._take else ""

    def close(self) -> None:
        """End: a running episode is aborted, one that is being saved is saved."""
        if self.session.state is State.RECORDING:
            self._apply(self.session.command("abort", self.session._now, 0))
        self._queue.put(None)
        self._worker.join()
        self.writer.close()

    def drain(self) -> None:
        """Wait until everything handed over has been worked on."""
        done = threading.Event()
        self._queue.put(done.set)
        done.wait()
        if self._take is not None:
            self._take.catch_up()

    def command(
        self, command: str, now: float, operator: str = "", confirmed: bool = False, success: bool = False
    ) -> Answer:
        """What an operator asks for; see `Session.command`."""
        if command == "start" and self.card is None:
            done = "the plan is complete: there is nothing left to record"
            return Answer(False, done if self.scheduler.complete else "the next scene is not set up yet")
        answer = self.session.command(command, now, free_bytes(self.writer.root), operator, confirmed, success)
        self._apply(answer)
        return answer

    def tick(self, now: float) -> Answer | None:
        """Time goes on, seconds; call it a few times a second."""
        silence = {}
        if self.session.state is State.RECORDING:
            kind = "human" if self.settings.human else "robot"
            silence = {topic: now - self._heard.get(topic, -1e9) for topic in NEEDED[kind]}
        answer = self.session.tick(now, free_bytes(self.writer.root), silence)
        if answer is not None:
            self._apply(answer)
        return answer

    def receive(self, topic: str, cdr: bytes, stamp: int, received: int, now: float) -> None:
        """A message of the running stack.

        Args:
            topic: without namespace and leading slash.
            cdr: as it was on the wire.
            stamp: of its measurement, ns.
            received: when it came, ns of the clock in force.
            now: seconds of the clock of `tick`.
        """
        self._heard[topic] = now
        take = self._take
        if take is None or self.session.state is not State.RECORDING:
            return
        large = len(cdr) > SMALL and self._given - self._worked + len(cdr) > WAITING_BYTES
        if large or self._queue.qsize() >= WAITING:
            self.load.overflow[topic] = self.load.overflow.get(topic, 0) + 1
            return
        self._given += len(cdr)
        self._queue.put(_Message(take, topic, cdr, stamp, received, time.monotonic()))

    def record(self, cdr: bytes, stamp: int) -> None:
        """Put a status of the recorder into the native recording."""
        take = self._take
        if take is not None and self.session.state is State.RECORDING:
            self._queue.put(lambda: take.note(cdr, stamp))

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know now."""
        found = list(self.notes)
        if self.session.reason:
            found.append(f"aborted: {self.session.reason}")
        take = self._take
        if take is not None:
            lost = {name: count for name, count in take.counts.drops.items() if count}
            lost |= {topic: count for topic, count in self.load.overflow.items() if count}
            found += [f"{count} dropped: {name}" for name, count in lost.items()]
            found += [f"{count} refused: {text}" for text, count in list(take.rejected.items())[:3]]
        elif self.quality is not None:
            found += self.quality.reasons
        free = free_bytes(self.writer.root)
        if free < 4 * self.settings.limits.reserve:
            found.append(f"{free / 1e9:.0f} GB left on the disk")
        return tuple(found)

    # What is to be done when the state changes

    def _apply(self, answer: Answer) -> None:
        if answer.effect is Effect.BEGIN:
            self._begin()
            return
        take, self._take = (self._take, None) if answer.effect is not None else (None, self._take)
        if take is None:
            return
        if answer.effect is Effect.SAVE:
            self._queue.put(lambda: self._save(take))
        else:
            self.card = None
            take.cancelled = answer.effect is Effect.DISCARD
            self._queue.put(lambda: self._drop(take, aside=answer.effect is Effect.ABORT))

    def _begin(self) -> None:
        card = self.card
        assert card is not None
        self.load, self.notes = Load(), ()
        root = self.writer.root
        building = self.writer.begin(card.instruction, QUICK)
        try:
            self._take = Take(root, self.layout, building, self.settings.human, self.settings.namespace)
        except (OSError, LookupError, ValueError) as error:
            building.discard()
            self.session.failed(str(error))

    def _drop(self, take: Take, aside: bool) -> None:
        """In the worker's thread: end an episode that is not kept, its native recording put `aside` or thrown away."""
        if aside:
            take.abort()
        else:
            take.discard()
        self._redraw()

    def _save(self, take: Take) -> None:
        """In the worker's thread: complete the episode, look at it, and make it part of the dataset."""
        card, configuration = self.card, self._configuration
        assert card is not None
        assert configuration is not None
        try:
            staged = take.finish()
        except (ValueError, OSError, RuntimeError) as error:
            self.session.failed(str(error))
            self._drop(take, aside=True)
            return
        fps = self.layout.fps
        usual = usual_length(self.writer.rows, staged.task, fps)
        quality = assess(staged, fps, self.layout.robot, usual)
        self.quality = quality
        if quality.verdict == FAIL and not self.settings.keep_failed:
            self.session.failed(f"the quality check says no: {'; '.join(quality.reasons)}")
            self._drop(take, aside=True)
            return
        drops = take.counts.drops
        self.notes = tuple(f"{count} dropped: {name}" for name, count in drops.items() if count)
        story = Story(
            self.session.success,
            self.session.operator,
            configuration.as_dict(),
            {**card.as_dict(), "diagram": ""},
            take.source,
            drops,
        )
        commit(self.writer, staged, quality, story)
        self._draw()
        self.session.saved()

    def _redraw(self) -> None:
        """The configuration goes back into the pool."""
        if self._configuration is not None:
            self.scheduler.reject(self._configuration)
        self._draw()

    def _draw(self) -> None:
        """Draw the next configuration and set its scene up."""
        self._configuration, self.card = None, None
        fixed = {"operator": self.session.operator}
        if fixed["operator"] not in self.plan.values["operator"]:
            fixed = {}
        try:
            self._configuration = self.scheduler.next(fixed)
        except PlanError as error:
            self.notes = (*self.notes, str(error))
            return
        card = card_of(self.plan, self._configuration)
        self.card = self._on_card(card) if self._on_card else card

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, _Message):
                    self._worked += len(item.cdr)
                    item.take.add(item.topic, item.cdr, item.stamp, item.received)
                    self.load.lag = max(self.load.lag, time.monotonic() - item.since)
                else:
                    item()
            except (OSError, ValueError, RuntimeError, UserError) as error:
                # Whatever broke (a full disk, a lost folder), this thread lives on: the episode ends, the reason is
                # told.
                self.session.failed(str(error))
                if isinstance(item, _Message) and self._take is item.take:
                    self._take, take = None, item.take
                    self._queue.put(lambda take=take: self._drop(take, aside=True))  # type: ignore[misc]

    def lag(self, stamp: int) -> float:
        """Seconds by which the last frame written is behind a stamp, ns; 0 when nothing is recorded."""
        take = self._take
        return (stamp - take.frames.newest) / NANOSECONDS if take is not None and take.frames.newest else 0.0


def status_of(recorder: Recorder) -> dict[str, Any]:
    """What the recorder says of itself, by the fields of bytemini_msgs/EpisodeStatus."""
    session, card = recorder.session, recorder.card
    return {
        "state": session.state.value,
        "episode": recorder.episode,
        "saved": recorder.writer.episodes,
        "countdown": session.countdown,
        "duration": session.duration,
        "task": card.instruction if card else "",
        "card": card.as_dict() if card else {},
        "quality": recorder.quality.verdict if recorder.quality else "",
        "warnings": list(recorder.warnings()),
        "dataset": str(recorder.writer.root),
    }
