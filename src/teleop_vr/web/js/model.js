/**
 * What the operator is told, from what is known: one pure function that both the desktop page and the panels in the
 * headset show, so that they never disagree.
 */

/** @typedef {"ok"|"info"|"warn"|"danger"|"muted"} Tone */

/** Round trip over which the link counts as slow and as bad, ms. */
const SLOW_MS = 60;
const BAD_MS = 150;
const RECORDER = Object.freeze({
  "": "No recorder",
  IDLE: "Ready to record",
  COUNTDOWN: "Get ready",
  RECORDING: "Recording",
  SAVING: "Saving",
  SAVED: "Saved",
  DISCARDED: "Discarded",
  ABORTED: "Aborted",
});
const SIDES = Object.freeze({ left: "Left", right: "Right" });

const number = (v) => (Number.isFinite(v) ? v : null);

/** Milliseconds in words, an en dash where unknown. */
export const ms = (v) => (number(v) === null ? "–" : `${v < 9.95 ? v.toFixed(1) : Math.round(v)} ms`);

/** Seconds as m:ss. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(number(seconds) ?? 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/**
 * Facts that come from the page itself rather than from the robot.
 * @typedef {object} Page
 * @property {string} status of the link
 * @property {string} reason why the link is not open
 * @property {string} fix what to do about it
 * @property {number} retryIn s
 * @property {boolean} fresh the state is of now
 * @property {number} stateAge s
 * @property {string} role
 * @property {string} operator who holds the robot
 * @property {number|null} roundTrip ms
 * @property {number|null} frameRate of the headset, 1/s
 * @property {string} headset why frames stopped or are unusable, "" while all is well
 * @property {boolean} congested frames pile up in the browser
 * @property {{level: string, text: string}|null} event that the server told a moment ago, for who sees no desk
 * @property {boolean} human there is no robot: the operator shows a task with their own hands
 * @property {Record<string, number>} cameras age in s of the newest picture by camera; only those that should run
 *
 * @param {object|null} state newest of the server
 * @param {Page} page
 */
export function describe(state, page) {
  const live = page.status === "open" && page.fresh && state !== null;
  return {
    live,
    headline: headline(state, page, live),
    link: linkOf(page),
    hands: live ? { left: handOf(state, "left", page), right: handOf(state, "right", page) } : { left: null, right: null },
    episode: episodeOf(state),
    prompt: live ? state.prompt : null,
    warnings: warnings(state, page, live),
    latency: latencyOf(state, page),
    buttons: buttonsOf(state, page, live),
  };
}

function headline(state, page, live) {
  if (page.status !== "open") return linkOf(page);
  if (!live) {
    const silent = state ? `No news from the robot for ${page.stateAge.toFixed(1)} s` : "Waiting for the robot’s state";
    return { tone: "warn", text: "Robot silent", detail: silent };
  }
  if (state.session === "estop" || state.mode === "ESTOP") {
    return { tone: "danger", text: "Emergency stop", detail: state.mode_reason || "Reset it once everything is safe." };
  }
  if (page.human && state.session !== "idle" && state.session !== "paused") {
    const detail = "A starts an episode, A again saves it, X discards it; or somebody at the desk does.";
    return state.session === "lost"
      ? { tone: "warn", text: "Headset lost", detail: "No frame comes." }
      : { tone: "info", text: "Show the task", detail };
  }
  switch (state.session) {
    case "engaged": {
      const moving = Object.keys(SIDES).filter((side) => state.hands[side].engaged);
      const text =
        moving.length === 2 ? "Both hands move" : moving.length ? `${SIDES[moving[0]]} hand moves` : "Robot moves";
      return { tone: "ok", text, detail: "Let go of the grip to hold." };
    }
    case "paused":
      return { tone: "warn", text: "Paused", detail: "The robot holds. Hold Y to go on." };
    case "lost":
      return { tone: "warn", text: "Headset lost", detail: "The robot holds. Grip again to go on." };
    case "ready":
      if (state.sticks && !state.sticks.neutral) {
        return { tone: "warn", text: "Let go of all sticks", detail: "They must be at rest before the robot moves." };
      }
      return { tone: "info", text: "Ready", detail: "Hold a grip to move that hand." };
    default:
      return { tone: "muted", text: "No headset", detail: "The robot holds." };
  }
}

function linkOf(page) {
  switch (page.status) {
    case "open":
      return page.fresh
        ? { tone: "ok", text: "Connected", detail: "" }
        : { tone: "warn", text: "Robot silent", detail: "" };
    case "connecting":
      return { tone: "info", text: "Connecting", detail: page.reason };
    case "waiting":
      return {
        tone: "warn",
        text: "Not connected",
        detail: sentences(page.reason, "The robot holds", `Next try in ${Math.ceil(page.retryIn)} s`),
      };
    case "refused":
      return { tone: "danger", text: "Refused", detail: sentences(page.reason, page.fix) };
    default:
      return { tone: "muted", text: "Closed", detail: page.reason };
  }
}

function handOf(state, side, page) {
  const hand = state.hands[side];
  const limits = hand.limited ?? [];
  if (page.human) {
    const seen = hand.tracked ? { tone: "ok", text: "seen" } : { tone: "warn", text: "not seen" };
    return { gripper: null, force: null, limits: [], engaged: false, ...seen };
  }
  const common = { gripper: number(hand.gripper), force: number(hand.force), limits, engaged: hand.engaged };
  if (!hand.tracked) {
    const unseen = {
      tone: state.session === "idle" ? "muted" : "warn",
      text: state.session === "idle" ? "–" : "not seen",
    };
    return { ...common, ...unseen };
  }
  if (hand.engaged) {
    if (limits.length) return { ...common, tone: "warn", text: `limited: ${limits.join(", ")}` };
    return { ...common, tone: "ok", text: hand.gripper_waiting ? "squeeze to take the gripper" : "moves" };
  }
  if (hand.withheld) return { ...common, tone: "warn", text: hand.withheld };
  return { ...common, tone: "info", text: "holds" };
}

function episodeOf(state) {
  const e = state?.episode;
  if (!e || !e.state)
    return {
      state: "",
      text: RECORDER[""],
      tone: "muted",
      title: "No recorder",
      task: "",
      countdown: 0,
      time: "",
      card: null,
    };
  const tones = { RECORDING: "danger", COUNTDOWN: "warn", SAVING: "info", SAVED: "ok", ABORTED: "warn" };
  return {
    state: e.state,
    text: [RECORDER[e.state] ?? e.state, e.state === "SAVED" && e.quality].filter(Boolean).join(" · "),
    tone: tones[e.state] ?? "muted",
    title: `Episode ${e.index}`,
    saved: `${e.saved} saved`,
    task: sentence(e.task ?? ""),
    countdown: e.state === "COUNTDOWN" ? Math.ceil(e.countdown) : 0,
    time: e.state === "RECORDING" || e.state === "SAVING" ? clock(e.duration) : "",
    quality: e.quality ?? "",
    card: cardOf(e.scene_card),
    dataset: e.dataset ?? "",
  };
}

/** The scene card: what to place where and what to do, line by line, and a drawing of it; null without one. */
function cardOf(card) {
  const steps = (Array.isArray(card?.steps) ? card.steps : []).filter((step) => typeof step === "string");
  if (!steps.length) return null;
  const drawing = typeof card.diagram === "string" && card.diagram ? card.diagram : null;
  return { steps, picture: drawing && `data:image/svg+xml,${encodeURIComponent(drawing)}` };
}

function warnings(state, page, live) {
  const list = [];
  if (page.event) {
    const tones = { error: "danger", warn: "warn" };
    list.push({ tone: tones[page.event.level] ?? "info", code: "event", text: sentence(page.event.text) });
  }
  if (page.congested)
    list.push({ tone: "warn", code: "congested", text: "The network does not keep up: frames are left out" });
  if (page.headset) list.push({ tone: "warn", code: "headset", text: page.headset });
  if (page.status === "open" && !page.fresh && state) {
    list.push({ tone: "warn", code: "link_stale", text: `Robot state is ${page.stateAge.toFixed(1)} s old` });
  }
  if (page.status === "open") {
    for (const [name, age] of Object.entries(page.cameras)) {
      const since = Number.isFinite(age) ? `no picture for ${age.toFixed(1)} s` : "no picture yet";
      list.push({ tone: "warn", code: "camera_stale", text: `${cameraLabel(name)}: ${since}` });
    }
  }
  if (live) {
    const own = new Set(list.map((w) => w.code));
    for (const w of state.warnings ?? []) {
      if (own.has(w.code)) continue; // said already, and fresher
      list.push({
        tone: w.code === "robot" || w.code === "estop" ? "danger" : "warn",
        code: w.code,
        text: sentence(w.text),
      });
    }
  }
  return list;
}

/** A text with a capital at its beginning. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Texts that came without capital and full stop, one after the other. */
const sentences = (...texts) =>
  texts
    .filter(Boolean)
    .map((text) => (/[.!?…]$/.test(text) ? sentence(text) : `${sentence(text)}.`))
    .join(" ");

/** Name of a camera for people. */
export const cameraLabel = (name) => sentence(name.replaceAll("_", " "));

function latencyOf(state, page) {
  const trip = number(page.roundTrip) ?? number(state?.latency?.rtt_ms);
  const video = state?.latency?.video_ms ?? {};
  return {
    tone: trip === null ? "muted" : trip < SLOW_MS ? "ok" : trip < BAD_MS ? "warn" : "danger",
    roundTrip: ms(trip),
    jitter: ms(state?.latency?.jitter_ms),
    command: ms(state?.latency?.command_ms),
    frameRate: number(page.frameRate) === null ? "–" : `${Math.round(page.frameRate)} Hz`,
    video: Object.entries(video).map(([name, value]) => ({ name: cameraLabel(name), text: ms(value) })),
    videoHead: ms(video.head),
  };
}

function buttonsOf(state, page, live) {
  const no = (why) => ({ enabled: false, why });
  const yes = { enabled: true, why: "" };
  const off = page.status === "open" ? "Waiting for the robot’s state" : "Not connected";
  if (!live) {
    return {
      start: no(off),
      save: no(off),
      discard: no(off),
      pause: no(off),
      lock: no(off),
      estop: page.status === "open" ? yes : no(off),
      reset: no(off),
    };
  }
  const e = state.episode?.state ?? "";
  const running = e === "RECORDING" || e === "COUNTDOWN";
  const stopped = state.session === "estop" || state.mode === "ESTOP";
  const none = e === "" ? "No recorder is running" : null;
  return {
    start: none
      ? no(none)
      : stopped
        ? no("Emergency stop")
        : running || e === "SAVING"
          ? no("An episode is under way")
          : yes,
    save: none ? no(none) : e === "RECORDING" ? yes : no("Nothing is being recorded"),
    discard: none ? no(none) : running ? yes : no("Nothing is being recorded"),
    pause: stopped ? no("Emergency stop") : state.session === "idle" ? no("No headset") : yes,
    lock: page.role === "operator" ? yes : no("Only who drives can lock the base"),
    estop: stopped ? no("Already stopped") : yes,
    reset: stopped ? yes : no("Not stopped"),
  };
}
