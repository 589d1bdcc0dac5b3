/** What an XR frame says, as the numbers that go over the wire. */
import { NOWHERE, absent } from "./protocol.js";
import { length, normalise, subtract } from "./maths.js";

const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

/** Thumb and index this far apart (m) count as pinched fully and not at all. */
const PINCH = [0.015, 0.07];
/** Reach of a finger as a share of its length: stretched and closed to a fist. */
const STRETCH = [0.95, 0.6];
const CURLED = ["middle-finger", "ring-finger", "pinky-finger"];
const BONES = ["metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip"];

/** Pose from an XRPose; its quaternion is made a unit one, since browsers round to single precision. */
export function poseOf({ transform: { position: p, orientation: q } }) {
  return { position: [p.x, p.y, p.z], orientation: normalise([q.x, q.y, q.z, q.w]) };
}

/** How far thumb and index are pinched, 0 to 1. @param {(name: string) => number[]|null} joint position of a joint */
export function pinch(joint) {
  const thumb = joint("thumb-tip");
  const index = joint("index-finger-tip");
  if (!thumb || !index) return 0;
  return clamp((PINCH[1] - length(subtract(thumb, index))) / (PINCH[1] - PINCH[0]), 0, 1);
}

/** How far middle, ring and little finger are curled, 0 to 1: the bare hand's grip button. */
export function curl(joint) {
  let sum = 0;
  for (const finger of CURLED) {
    const chain = BONES.map((bone) => joint(`${finger}-${bone}`));
    if (chain.includes(null)) return 0;
    const bones = chain.slice(1).reduce((total, p, i) => total + length(subtract(p, chain[i])), 0);
    if (!(bones > 0)) return 0;
    const reach = length(subtract(chain.at(-1), chain[0])) / bones;
    sum += clamp((STRETCH[0] - reach) / (STRETCH[0] - STRETCH[1]), 0, 1);
  }
  return sum / CURLED.length;
}

/** Controller buttons and stick of a gamepad of the mapping `xr-standard`. */
export function padOf(gamepad) {
  const { buttons, axes } = gamepad;
  const number = (v) => (Number.isFinite(v) ? v : 0); // unused axes are null in some runtimes
  let pressed = 0;
  for (let i = 0; i < Math.min(8, buttons.length); i++) if (buttons[i]?.pressed) pressed |= 1 << i;
  return {
    trigger: clamp(number(buttons[0]?.value), 0, 1),
    squeeze: clamp(number(buttons[1]?.value), 0, 1),
    stick: [clamp(number(axes[2]), -1, 1), clamp(number(axes[3]), -1, 1)],
    pressed,
  };
}

/**
 * One hand of an XR frame.
 * @param {XRInputSource} source
 * @param {XRFrame} frame
 * @param {XRReferenceSpace} space
 * @returns {import("./protocol.js").Hand}
 */
export function handOf(source, frame, space) {
  const out = absent();
  const where = source.gripSpace ?? source.hand?.get("wrist");
  const pose = where ? frame.getPose(where, space) : null;
  if (pose) {
    out.pose = poseOf(pose);
    out.tracked = !pose.emulatedPosition;
  }
  if (source.hand) {
    const joint = (name) => {
      const at = source.hand.get(name);
      const p = at && frame.getJointPose(at, space);
      return p ? [p.transform.position.x, p.transform.position.y, p.transform.position.z] : null;
    };
    out.bare = true;
    out.tracked = out.tracked && joint("wrist") !== null;
    if (out.tracked) Object.assign(out, { trigger: pinch(joint), squeeze: curl(joint) });
  } else if (source.gamepad) {
    Object.assign(out, padOf(source.gamepad));
  }
  return out;
}

/**
 * Everything the server wants of an XR frame.
 * @param {XRFrame} frame
 * @param {XRReferenceSpace} space
 * @param {{epoch: number, passthrough: boolean}} session
 * @returns {import("./protocol.js").Frame}
 */
export function frameOf(frame, space, { epoch, passthrough }) {
  const viewer = frame.getViewerPose(space);
  const out = {
    head: { pose: viewer ? poseOf(viewer) : NOWHERE, tracked: Boolean(viewer) && !viewer.emulatedPosition },
    left: absent(),
    right: absent(),
    visible: frame.session.visibilityState === "visible",
    passthrough,
    epoch,
  };
  for (const source of frame.session.inputSources) {
    if (source.handedness === "left" || source.handedness === "right") {
      out[source.handedness] = handOf(source, frame, space);
    }
  }
  return out;
}
