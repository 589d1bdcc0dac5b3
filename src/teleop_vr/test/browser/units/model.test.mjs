import assert from "node:assert/strict";
import { test } from "node:test";
import { pauseBefore } from "../../../web/js/link.js";
import { clock, describe, ms } from "../../../web/js/model.js";
import { line, wrap } from "../../../web/js/hud.js";
import { overlayOf } from "../../../web/js/scene.js";

const page = (more = {}) => ({
  status: "open",
  reason: "",
  fix: "",
  retryIn: 0,
  fresh: true,
  stateAge: 0.02,
  role: "operator",
  operator: "Ada",
  roundTrip: 20,
  frameRate: 72,
  headset: "",
  congested: false,
  event: null,
  cameras: {},
  ...more,
});
const hand = (more = {}) => ({
  engaged: false,
  withheld: "",
  tracked: true,
  limited: [],
  gripper: 0,
  gripper_waiting: false,
  ghost: null,
  force: 0,
  ...more,
});
const state = (more = {}) => ({
  t: 1,
  session: "ready",
  mode: "TELEOP",
  mode_reason: "",
  hands: { left: hand(), right: hand() },
  base: { twist: [0, 0, 0] },
  lift: 0,
  head: [0, 0],
  sticks: { neutral: true },
  prompt: null,
  warnings: [],
  latency: {},
  counters: {},
  episode: {
    state: "IDLE",
    index: 3,
    saved: 2,
    countdown: 0,
    duration: 0,
    task: "t",
    scene_card: null,
    quality: "",
    warnings: [],
  },
  ...more,
});

test("never claims the robot is live over a stale or closed link", () => {
  for (const bad of [
    { fresh: false, stateAge: 2 },
    { status: "waiting", reason: "gone." },
    { status: "refused" },
    { status: "connecting" },
    { status: "closed" },
  ]) {
    const told = describe(
      state({ session: "engaged", hands: { left: hand({ engaged: true }), right: hand() } }),
      page(bad),
    );
    assert.equal(told.live, false);
    assert.notEqual(told.headline.tone, "ok");
    assert.deepEqual(told.hands, { left: null, right: null });
    for (const name of ["start", "save", "discard", "pause", "lock", "reset"]) {
      assert.equal(told.buttons[name].enabled, false);
      assert.notEqual(told.buttons[name].why, "");
    }
    assert.notEqual(overlayOf(told), null);
  }
});

test("the stop can be pressed whenever there is a connection, even to a silent robot", () => {
  assert.ok(describe(null, page({ fresh: false })).buttons.estop.enabled);
  assert.ok(describe(state(), page({ fresh: false })).buttons.estop.enabled);
  assert.ok(!describe(state(), page({ status: "waiting" })).buttons.estop.enabled);
});

test("each state of the session has its headline", () => {
  const texts = ["idle", "ready", "engaged", "paused", "lost", "estop"].map(
    (session) => describe(state({ session }), page()).headline.text,
  );
  assert.equal(new Set(texts).size, texts.length);
  assert.equal(describe(state({ sticks: { neutral: false } }), page()).headline.text, "Let go of all sticks");
  assert.equal(describe(state({ mode: "ESTOP" }), page()).headline.tone, "danger");
  const both = describe(
    state({ session: "engaged", hands: { left: hand({ engaged: true }), right: hand({ engaged: true }) } }),
    page(),
  );
  assert.equal(both.headline.text, "Both hands move");
});

test("episode buttons follow the recorder", () => {
  const enabled = (e, more = {}) => {
    const b = describe(state({ episode: { ...state().episode, state: e }, ...more }), page()).buttons;
    return [b.start.enabled, b.save.enabled, b.discard.enabled];
  };
  assert.deepEqual(enabled(""), [false, false, false]);
  for (const rest of ["IDLE", "SAVED", "DISCARDED", "ABORTED"]) assert.deepEqual(enabled(rest), [true, false, false]);
  assert.deepEqual(enabled("COUNTDOWN"), [false, false, true]);
  assert.deepEqual(enabled("RECORDING"), [false, true, true]);
  assert.deepEqual(enabled("SAVING"), [false, false, false]);
  assert.deepEqual(enabled("IDLE", { session: "estop" }), [false, false, false]);
});

test("a hand says the reason that matters most", () => {
  const say = (h, session = "ready") =>
    describe(state({ session, hands: { left: hand(h), right: hand() } }), page()).hands.left;
  assert.equal(say({ tracked: false }).text, "not seen");
  assert.equal(say({ withheld: "stick is not at rest" }).text, "stick is not at rest");
  assert.equal(say({ engaged: true, limited: ["speed", "reach"] }).text, "limited: speed, reach");
  assert.equal(say({ engaged: true, gripper_waiting: true }).text, "squeeze to take the gripper");
  assert.equal(say({}).text, "holds");
});

test("warnings of the page replace the server's of the same kind", () => {
  const told = describe(
    state({
      warnings: [
        { code: "camera_stale", text: "old" },
        { code: "limit", text: "limit" },
      ],
    }),
    page({ cameras: { head: 1.23 } }),
  );
  assert.deepEqual(
    told.warnings.map((w) => w.text),
    ["Head: no picture for 1.2 s", "Limit"],
  );
});

test("without a recorder, without latency, nothing breaks", () => {
  const told = describe(state({ episode: { state: "" }, latency: { rtt_ms: null } }), page({ roundTrip: NaN }));
  assert.deepEqual([told.episode.title, told.latency.roundTrip, told.latency.frameRate], ["No recorder", "–", "72 Hz"]);
});

test("the overlay: stop before question before countdown", () => {
  const prompt = { kind: "discard", text: "?", confirm: "X", cancel: "A", left_s: 3.2 };
  const counting = { ...state().episode, state: "COUNTDOWN", countdown: 2.3 };
  assert.equal(overlayOf(describe(state({ session: "estop", prompt }), page())).kind, "stop");
  const asked = overlayOf(describe(state({ prompt, episode: counting }), page()));
  assert.equal(asked.kind, "ask");
  assert.match(asked.hint, /X = discard.*A = back.*4 s/);
  assert.equal(overlayOf(describe(state({ episode: counting }), page())).title, "3");
  assert.equal(overlayOf(describe(state(), page())), null);
});

test("pauses between tries grow to a bound", () => {
  const pauses = Array.from({ length: 20 }, (_, i) => pauseBefore(i, 0));
  assert.deepEqual(pauses.slice(0, 6), [500, 1000, 2000, 4000, 8000, 8000]);
  assert.ok(pauseBefore(19, 1) <= 10000);
});

test("numbers in words", () => {
  assert.deepEqual([ms(3.14159), ms(42.4), ms(null), ms(undefined), ms(NaN)], ["3.1 ms", "42 ms", "–", "–", "–"]);
  assert.deepEqual([clock(0), clock(61.9), clock(NaN), clock(3600)], ["0:00", "1:01", "0:00", "60:00"]);
});

test("scene cards are shown as words and a drawing, others than ours not at all", () => {
  const card = (scene_card) => describe(state({ episode: { ...state().episode, scene_card } }), page()).episode.card;
  assert.equal(card(null), null);
  assert.equal(card({}), null);
  assert.equal(card({ steps: "x" }), null);
  assert.deepEqual(card({ steps: ["Place the mug.", 3] }), { steps: ["Place the mug."], picture: null });
  assert.equal(card({ steps: ["a"], diagram: "<svg/>" }).picture, "data:image/svg+xml,%3Csvg%2F%3E");
});

test("writing fits its line", () => {
  const written = [];
  const pen = { measureText: (t) => ({ width: 10 * t.length }), fillText: (t) => written.push(t) };
  line(pen, "short", 0, 0, 100);
  line(pen, "something much longer than that", 0, 0, 100);
  assert.deepEqual(written, ["short", "something…"]);
  const rows = wrap(pen, "several words that go on and on until the third row takes all the rest", 150, 3);
  assert.equal(rows.length, 3);
  assert.ok(rows.slice(0, 2).every((r) => r.length <= 15));
});
