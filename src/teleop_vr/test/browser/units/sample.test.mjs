import assert from "node:assert/strict";
import { test } from "node:test";
import { FLAGS, FRAME_BYTES, absent, decodePicture, encodeFrame, flagsOf } from "../../../web/js/protocol.js";
import { curl, frameOf, padOf, pinch } from "../../../web/js/sample.js";

const NAMES = ["metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip"];

/** Joints of a hand whose three fingers bend by an angle at each knuckle and whose thumb is so far from the index. */
function hand(bend, gap) {
  const joints = new Map([
    ["thumb-tip", [0, 0, 0]],
    ["index-finger-tip", [gap, 0, 0]],
  ]);
  for (const finger of ["middle-finger", "ring-finger", "pinky-finger"]) {
    let [y, z, direction] = [0, 0, 0];
    NAMES.forEach((bone, i) => {
      joints.set(`${finger}-${bone}`, [0, y, z]);
      direction += i ? bend : 0;
      y -= 0.03 * Math.sin(direction);
      z -= 0.03 * Math.cos(direction);
    });
  }
  return (name) => joints.get(name) ?? null;
}

test("pinch runs from apart to touching", () => {
  assert.equal(pinch(hand(0, 0.1)), 0);
  assert.equal(pinch(hand(0, 0.01)), 1);
  const values = [0.02, 0.03, 0.05, 0.065].map((gap) => pinch(hand(0, gap)));
  assert.deepEqual(
    values,
    [...values].sort((a, b) => b - a),
  );
  assert.ok(values.every((v) => v > 0 && v < 1));
  assert.equal(
    pinch(() => null),
    0,
  );
});

test("curl runs from stretched to a fist, and a finger that is not seen counts as stretched", () => {
  assert.equal(curl(hand(0.05, 0)), 0);
  assert.equal(curl(hand(1.3, 0)), 1);
  const values = [0.2, 0.4, 0.6, 0.8].map((bend) => curl(hand(bend, 0)));
  assert.deepEqual(
    values,
    [...values].sort((a, b) => a - b),
  );
  assert.equal(
    curl((name) => (name.startsWith("ring") ? null : hand(1.3, 0)(name))),
    0,
  );
});

test("gamepads with gaps, nulls and wild values give numbers in range", () => {
  const pad = padOf({
    buttons: [{ value: 1.2, pressed: true }, { value: 0.4, pressed: false }, undefined, { pressed: true }],
    axes: [null, null, -1.5, NaN],
  });
  assert.deepEqual(pad, { trigger: 1, squeeze: 0.4, stick: [-1, 0], pressed: 0b1001 });
  assert.deepEqual(padOf({ buttons: [], axes: [] }), { trigger: 0, squeeze: 0, stick: [0, 0], pressed: 0 });
});

function xr({ emulated = false, pose = true, visibility = "visible", sources }) {
  const transform = { position: { x: 1, y: 2, z: 3 }, orientation: { x: 0, y: 0, z: 0, w: 1.0005 } };
  return {
    session: { visibilityState: visibility, inputSources: sources },
    getPose: () => (pose ? { transform, emulatedPosition: emulated } : null),
    getViewerPose: () => (pose ? { transform, emulatedPosition: false } : null),
    getJointPose: () => (pose ? { transform } : null),
  };
}
const controller = (handedness) => ({ handedness, gripSpace: {}, gamepad: { buttons: [{ value: 0.5 }], axes: [] } });

test("a hand that is only extrapolated, or not there, is not tracked", () => {
  const session = { epoch: 3, passthrough: false };
  const sources = [controller("left"), controller("right")];
  const seen = frameOf(xr({ sources }), null, session);
  assert.equal(flagsOf(seen), FLAGS.head | FLAGS.left | FLAGS.right | FLAGS.visible);
  assert.ok(Math.abs(Math.hypot(...seen.left.pose.orientation) - 1) < 1e-12);
  assert.equal(flagsOf(frameOf(xr({ sources, emulated: true }), null, session)), FLAGS.head | FLAGS.visible);
  assert.equal(flagsOf(frameOf(xr({ sources, pose: false }), null, session)), FLAGS.visible);
  assert.equal(flagsOf(frameOf(xr({ sources: [], visibility: "visible-blurred" }), null, session)), FLAGS.head);
  assert.deepEqual(frameOf(xr({ sources: [] }), null, session).left, absent());
});

test("bare hands say so; without joints they press nothing", () => {
  const bare = { handedness: "left", hand: { get: (name) => name }, gripSpace: {} };
  const frame = frameOf(xr({ sources: [bare] }), null, { epoch: 0, passthrough: true });
  assert.equal(flagsOf(frame), FLAGS.head | FLAGS.left | FLAGS.leftHand | FLAGS.visible | FLAGS.passthrough);
  const lost = frameOf(xr({ sources: [bare], pose: false }), null, { epoch: 0, passthrough: true });
  assert.deepEqual([lost.left.tracked, lost.left.trigger, lost.left.squeeze], [false, 0, 0]);
});

test("a frame has its length, and pictures that are none are refused", () => {
  const frame = {
    head: { pose: absent().pose, tracked: false },
    left: absent(),
    right: absent(),
    visible: true,
    passthrough: false,
    epoch: 1,
  };
  assert.equal(encodeFrame(frame, { sequence: 1, time: 0, echo: 0, echoHeld: 0 }).byteLength, FRAME_BYTES);
  assert.throws(() => decodePicture(new ArrayBuffer(24)), /more than 24/);
  assert.throws(() => decodePicture(new ArrayBuffer(60)), /unknown kind/);
});
