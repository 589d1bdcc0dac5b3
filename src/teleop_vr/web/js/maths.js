/**
 * Vectors, quaternions and rigid transforms of the page. Vectors are [x, y, z] in metres, quaternions [x, y, z, w]
 * (the order of WebXR), matrices 16 numbers column by column (the order of WebGL).
 *
 * @typedef {[number, number, number]} Vec3
 * @typedef {[number, number, number, number]} Quat
 * @typedef {{position: Vec3, orientation: Quat}} Pose
 */

/** Sum of two vectors. */
export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
/** Difference a - b. */
export const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
/** Vector times a number. */
export const scale = (a, k) => [a[0] * k, a[1] * k, a[2] * k];
/** Inner product. */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
/** Euclidean length. */
export const length = (a) => Math.hypot(a[0], a[1], a[2]);
/** Vector product. */
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/**
 * Unit vector along a.
 * @throws {RangeError} a has no length.
 */
export function unit(a) {
  const n = length(a);
  if (!(n > 0)) throw new RangeError("a vector without length has no direction");
  return scale(a, 1 / n);
}

/** Rotation that first does b, then a. */
export function multiply(a, b) {
  const [ax, ay, az, aw] = a;
  const [bx, by, bz, bw] = b;
  return [
    aw * bx + ax * bw + ay * bz - az * by,
    aw * by - ax * bz + ay * bw + az * bx,
    aw * bz + ax * by - ay * bx + az * bw,
    aw * bw - ax * bx - ay * by - az * bz,
  ];
}

/** Inverse of a unit quaternion. */
export const conjugate = (q) => [-q[0], -q[1], -q[2], q[3]];

/**
 * Unit quaternion along q.
 * @throws {RangeError} q has no length.
 */
export function normalise(q) {
  const n = Math.hypot(...q);
  if (!(n > 0)) throw new RangeError("a quaternion without length is no rotation");
  return q.map((v) => v / n);
}

/** Vector v turned by the unit quaternion q. */
export function rotate(q, v) {
  const u = [q[0], q[1], q[2]];
  const t = scale(cross(u, v), 2);
  return add(add(v, scale(t, q[3])), cross(u, t));
}

/** Rotation of angle (rad) about a unit axis. */
export function axisAngle(axis, angle) {
  const s = Math.sin(angle / 2);
  return [axis[0] * s, axis[1] * s, axis[2] * s, Math.cos(angle / 2)];
}

/** Heading of a rotation about the vertical (WebXR +y), rad: where its -z axis points; 0 ahead, left positive. */
export function heading(q) {
  const forward = rotate(q, [0, 0, -1]);
  if (Math.hypot(forward[0], forward[2]) > 1e-3) return Math.atan2(-forward[0], -forward[2]);
  const up = rotate(q, [0, 1, 0]); // looking straight up or down: the crown or the chin points the way
  return forward[1] < 0 ? Math.atan2(-up[0], -up[2]) : Math.atan2(up[0], up[2]);
}

/** Rotation about the vertical by a heading, rad. */
export const fromHeading = (angle) => axisAngle([0, 1, 0], angle);

/** Rotation whose +z axis points from `at` to the viewer `eye`, upright: a panel that faces the viewer. */
export function facing(at, eye) {
  const z = unit(subtract(eye, at));
  const side = cross([0, 1, 0], z);
  const x = length(side) > 1e-6 ? unit(side) : [1, 0, 0];
  return fromAxes(x, cross(z, x), z);
}

/** Quaternion of a rotation given by its three orthonormal columns. */
export function fromAxes(x, y, z) {
  const trace = x[0] + y[1] + z[2];
  if (trace > 0) {
    const s = 2 * Math.sqrt(trace + 1);
    return normalise([(y[2] - z[1]) / s, (z[0] - x[2]) / s, (x[1] - y[0]) / s, s / 4]);
  }
  if (x[0] > y[1] && x[0] > z[2]) {
    const s = 2 * Math.sqrt(1 + x[0] - y[1] - z[2]);
    return normalise([s / 4, (y[0] + x[1]) / s, (z[0] + x[2]) / s, (y[2] - z[1]) / s]);
  }
  if (y[1] > z[2]) {
    const s = 2 * Math.sqrt(1 + y[1] - x[0] - z[2]);
    return normalise([(y[0] + x[1]) / s, s / 4, (z[1] + y[2]) / s, (z[0] - x[2]) / s]);
  }
  const s = 2 * Math.sqrt(1 + z[2] - x[0] - y[1]);
  return normalise([(z[0] + x[2]) / s, (z[1] + y[2]) / s, s / 4, (x[1] - y[0]) / s]);
}

/** Pose a followed by pose b in its frame. */
export const compose = (a, b) => ({
  position: add(a.position, rotate(a.orientation, b.position)),
  orientation: multiply(a.orientation, b.orientation),
});

/** Inverse of a pose. */
export function invert(pose) {
  const orientation = conjugate(pose.orientation);
  return { position: scale(rotate(orientation, pose.position), -1), orientation };
}

/** Point p of the frame of a pose, in the frame the pose is given in. */
export const transform = (pose, p) => add(pose.position, rotate(pose.orientation, p));

/** Matrix of a pose, its axes stretched by `size`. */
export function matrix(pose, size = [1, 1, 1]) {
  const x = scale(rotate(pose.orientation, [1, 0, 0]), size[0]);
  const y = scale(rotate(pose.orientation, [0, 1, 0]), size[1]);
  const z = scale(rotate(pose.orientation, [0, 0, 1]), size[2]);
  return new Float32Array([...x, 0, ...y, 0, ...z, 0, ...pose.position, 1]);
}

/** Product of two matrices. */
export function product(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++) {
    for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[k * 4 + r] * b[c * 4 + k];
      out[c * 4 + r] = sum;
    }
  }
  return out;
}
