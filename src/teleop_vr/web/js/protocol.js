/**
 * The binary messages of the sockets, version 1. Little-endian; poses in the `local-floor` axes of WebXR
 * (+x right, +y up, -z ahead), metres, quaternions x y z w, just as the browser gives them: the server converts.
 * `teleop_vr.protocol` has the other end; a test sends one through the other.
 */
export const PROTOCOL = 1;
export const FRAME_BYTES = 156;
const FRAME_MAGIC = 0x31544d42;
const PICTURE_MAGIC = 0x31564d42;
const PICTURE_HEADER = 24;
const CAMERA_MAGIC = 0x31434d42;
const CAMERA_HEADER = 24;

export const FLAGS = Object.freeze({
  head: 1 << 0,
  left: 1 << 1,
  right: 1 << 2,
  leftHand: 1 << 3,
  rightHand: 1 << 4,
  visible: 1 << 5,
  passthrough: 1 << 6,
});

/** What is sent of a hand that is not seen. */
export const NOWHERE = Object.freeze({ position: [0, 0, 0], orientation: [0, 0, 0, 1] });

/**
 * One hand as the server wants it.
 * @typedef {object} Hand
 * @property {import("./maths.js").Pose} pose
 * @property {boolean} tracked seen by the cameras, not merely extrapolated
 * @property {boolean} bare a hand without a controller
 * @property {number} trigger 0 to 1
 * @property {number} squeeze 0 to 1
 * @property {[number, number]} stick right +, down +, -1 to 1
 * @property {number} pressed bit i: button i is down
 *
 * @typedef {object} Frame
 * @property {{pose: import("./maths.js").Pose, tracked: boolean}} head
 * @property {Hand} left
 * @property {Hand} right
 * @property {boolean} visible the session has the whole display and the input
 * @property {boolean} passthrough immersive-ar
 * @property {number} epoch counts discontinuities of the session
 */

/** A hand that nobody sees and that presses nothing. */
export const absent = () => ({
  pose: NOWHERE,
  tracked: false,
  bare: false,
  trigger: 0,
  squeeze: 0,
  stick: [0, 0],
  pressed: 0,
});

/** The bytes of a picture of the headset's own camera. @param {ArrayBuffer} jpeg */
export function encodeCameraPicture(jpeg, { sequence, time, width, height }) {
  const message = new Uint8Array(CAMERA_HEADER + jpeg.byteLength);
  const view = new DataView(message.buffer);
  view.setUint32(0, CAMERA_MAGIC, true);
  view.setUint32(4, sequence, true);
  view.setFloat64(8, time, true);
  view.setUint16(16, width, true);
  view.setUint16(18, height, true);
  message.set(new Uint8Array(jpeg), CAMERA_HEADER);
  return message;
}

/** Flags of a frame as one number. */
export function flagsOf(frame) {
  return (
    (frame.head.tracked ? FLAGS.head : 0) |
    (frame.left.tracked ? FLAGS.left : 0) |
    (frame.right.tracked ? FLAGS.right : 0) |
    (frame.left.bare ? FLAGS.leftHand : 0) |
    (frame.right.bare ? FLAGS.rightHand : 0) |
    (frame.visible ? FLAGS.visible : 0) |
    (frame.passthrough ? FLAGS.passthrough : 0)
  );
}

/**
 * Headset frame as it goes over the wire.
 * @param {Frame} frame
 * @param {{sequence: number, time: number, echo: number, echoHeld: number}} stamp sequence from 1 on each socket; time
 *   of this frame in s; `t` of the newest state message and the s since it came
 * @returns {ArrayBuffer} FRAME_BYTES long
 */
export function encodeFrame(frame, stamp) {
  const view = new DataView(new ArrayBuffer(FRAME_BYTES));
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint32(4, stamp.sequence, true);
  view.setFloat64(8, stamp.time, true);
  view.setFloat64(16, stamp.echo, true);
  view.setFloat32(24, stamp.echoHeld, true);
  view.setUint32(28, flagsOf(frame), true);
  view.setUint32(32, frame.epoch, true);
  [frame.head, frame.left, frame.right].forEach(({ pose }, i) => {
    [...pose.position, ...pose.orientation].forEach((v, k) => view.setFloat32(36 + 28 * i + 4 * k, v, true));
  });
  [frame.left, frame.right].forEach((hand, i) => {
    [hand.trigger, hand.squeeze, ...hand.stick].forEach((v, k) => view.setFloat32(120 + 16 * i + 4 * k, v, true));
  });
  view.setUint32(152, (frame.left.pressed & 0xff) | ((frame.right.pressed & 0xff) << 8), true);
  return view.buffer;
}

/**
 * A picture as it comes over the wire.
 * @param {ArrayBuffer} message
 * @returns {{camera: number, sequence: number, width: number, height: number, t: number, jpeg: Uint8Array}}
 * @throws {RangeError} it is none, or coded in a way unknown here
 */
export function decodePicture(message) {
  if (message.byteLength <= PICTURE_HEADER)
    throw new RangeError(`a picture has more than ${PICTURE_HEADER} bytes, not ${message.byteLength}`);
  const view = new DataView(message);
  if (view.getUint32(0, true) !== PICTURE_MAGIC) throw new RangeError("binary message of an unknown kind");
  if (view.getUint8(5) !== 0) throw new RangeError(`picture codec ${view.getUint8(5)} is unknown, JPEG is 0`);
  return {
    camera: view.getUint8(4),
    sequence: view.getUint32(8, true),
    width: view.getUint16(12, true),
    height: view.getUint16(14, true),
    t: view.getFloat64(16, true),
    jpeg: new Uint8Array(message, PICTURE_HEADER),
  };
}
