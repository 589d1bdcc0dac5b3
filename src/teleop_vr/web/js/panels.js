/**
 * Where the panels hang around the operator, and how a hand takes one: point, hold the trigger, and it follows the
 * hand; take it with both hands and pull to make it larger. All in the metres of the headset's reference space.
 */
import { add, compose, dot, facing, fromHeading, heading, invert, length, rotate, scale, subtract } from "./maths.js";

/** Share of its first size that a panel can shrink and grow to. */
const SCALES = [0.4, 2.5];
/** Trigger beyond which a pointing hand takes a panel, and below which it lets go. */
const [TAKE, DROP] = [0.7, 0.4];
/** Distances from the eye at which a panel can be put, m. */
const REACH = [0.5, 4];

/**
 * The panels as they hang at first, seen from the eye: degrees left (+) and up (+), distance in m. A panel fills as
 * much of `width` by `height` (m) as its `aspect` (width / height) allows; a camera's first picture corrects that.
 */
export const DEFAULT_PANELS = Object.freeze([
  { id: "head", left: 0, up: 0, distance: 1.7, width: 1.6, height: 1.05, aspect: 16 / 9 },
  { id: "left_wrist", left: 38, up: -10, distance: 1.5, width: 0.62, height: 0.5, aspect: 4 / 3 },
  { id: "right_wrist", left: -38, up: -10, distance: 1.5, width: 0.62, height: 0.5, aspect: 4 / 3 },
  { id: "scene", left: 37, up: 14, distance: 1.55, width: 0.6, height: 0.62, aspect: 640 / 660 },
  { id: "status", left: 0, up: -23, distance: 1.55, width: 1.3, height: 0.24, aspect: 1280 / 236 },
  { id: "warnings", left: 0, up: 22, distance: 1.6, width: 1.3, height: 0.18, aspect: 1280 / 176 },
]);

/** A picture in the room. `scale`: how much larger than at first it was pulled. */
class Panel {
  aspect;
  pose = null;
  scale = 1;
  visible = true;
  #spec;

  constructor(spec) {
    this.#spec = spec;
    this.aspect = spec.aspect;
  }

  get id() {
    return this.#spec.id;
  }
  /** m */
  get width() {
    return Math.min(this.#spec.width, this.#spec.height * this.aspect) * this.scale;
  }
}

/** Pose of a panel that hangs at these angles (degrees) and distance around an eye that looks along a heading. */
export function hang({ left, up, distance }, eye, gaze) {
  const azimuth = gaze + (left * Math.PI) / 180;
  const elevation = (up * Math.PI) / 180;
  const flat = rotate(fromHeading(azimuth), [0, 0, -Math.cos(elevation)]);
  const position = add(eye, scale([flat[0], Math.sin(elevation), flat[2]], distance));
  return { position, orientation: facing(position, eye) };
}

/** Point where a ray meets a panel: {distance, x, y} with x, y from -1/2 to 1/2 of its width and height, or null. */
export function meet(ray, panel) {
  const normal = rotate(panel.pose.orientation, [0, 0, 1]);
  const along = dot(ray.direction, normal);
  if (along > -1e-6) return null; // parallel, or from behind
  const distance = dot(subtract(panel.pose.position, ray.origin), normal) / along;
  if (distance < 0) return null;
  const point = add(ray.origin, scale(ray.direction, distance));
  const local = rotate(invert(panel.pose).orientation, subtract(point, panel.pose.position));
  const x = local[0] / panel.width;
  const y = local[1] / (panel.width / panel.aspect);
  return Math.abs(x) <= 0.5 && Math.abs(y) <= 0.5 ? { distance, x, y } : null;
}

/** The panels and the hands that hold them. */
export class Panels {
  /** @type {Map<string, Panel>} */
  all;
  /** @type {Map<string, {id: string, offset: object, distance: number}>} by hand */
  #held = new Map();
  #stretch = null;
  /** @type {Map<string, number>} trigger of each pointing hand, one frame ago */
  #before = new Map();

  /** @param {readonly object[]} layout panels as DEFAULT_PANELS has them */
  constructor(layout = DEFAULT_PANELS) {
    this.layout = layout;
    this.all = new Map(layout.map((spec) => [spec.id, new Panel(spec)]));
    this.anchor([0, 1.6, 0], [0, 0, 0, 1]);
  }

  /** Hang everything anew around a head: what the re-anchor button does. */
  anchor(position, orientation) {
    this.#held.clear();
    this.#stretch = null;
    const gaze = heading(orientation);
    for (const spec of this.layout) {
      const panel = this.all.get(spec.id);
      panel.pose = hang(spec, position, gaze);
      panel.scale = 1;
    }
  }

  /** The panel nearest along a ray, with where it is met, or null. */
  pick(ray) {
    let best = null;
    for (const panel of this.all.values()) {
      const hit = panel.visible ? meet(ray, panel) : null;
      if (hit && (!best || hit.distance < best.distance)) best = { ...hit, id: panel.id };
    }
    return best;
  }

  /** Name of the panel that a hand holds, or null. */
  held(hand) {
    return this.#held.get(hand)?.id ?? null;
  }

  /** A hand takes the panel it points at. @returns {boolean} whether there was one */
  grab(hand, ray) {
    const hit = this.pick(ray);
    if (!hit) return false;
    const panel = this.all.get(hit.id);
    const pointer = { position: ray.origin, orientation: ray.orientation };
    this.#held.set(hand, { id: hit.id, offset: compose(invert(pointer), panel.pose), point: hit.distance });
    this.#stretch = null;
    return true;
  }

  /**
   * A hand points somewhere and presses its trigger so far: takes a panel as the trigger goes down, lets go as it comes
   * up. A trigger that was down before the hand began to point takes nothing.
   */
  squeeze(hand, ray, trigger) {
    const before = this.#before.get(hand) ?? 1;
    this.#before.set(hand, trigger);
    if (this.held(hand)) {
      if (trigger < DROP) this.release(hand);
    } else if (before <= TAKE && trigger > TAKE) {
      this.grab(hand, ray);
    }
  }

  /** A hand lets go. */
  release(hand) {
    this.#held.delete(hand);
    this.#stretch = null;
  }

  /**
   * Follow the hands.
   * @param {Map<string, object>} rays of each hand that points: {origin, direction, orientation}
   * @param {import("./maths.js").Vec3} eye where the operator's head is: a panel in hand turns to face it
   */
  move(rays, eye) {
    for (const hand of [...this.#held.keys()]) if (!rays.has(hand)) this.release(hand);
    for (const hand of [...this.#before.keys()]) if (!rays.has(hand)) this.#before.delete(hand);
    const holds = [...this.#held.entries()];
    if (holds.length === 2 && holds[0][1].id === holds[1][1].id) {
      this.#pull(holds[0][1].id, rays);
      return;
    }
    for (const [hand, hold] of holds) {
      const ray = rays.get(hand);
      const panel = this.all.get(hold.id);
      const wanted = compose({ position: ray.origin, orientation: ray.orientation }, hold.offset).position;
      const away = subtract(wanted, eye);
      const distance = Math.min(REACH[1], Math.max(REACH[0], length(away)));
      const position = length(away) > 1e-6 ? add(eye, scale(away, distance / length(away))) : panel.pose.position;
      panel.pose = { position, orientation: facing(position, eye) };
    }
  }

  #pull(id, rays) {
    const panel = this.all.get(id);
    const tips = [...this.#held.entries()].map(([hand, hold]) => {
      const ray = rays.get(hand);
      return add(ray.origin, scale(ray.direction, hold.point));
    });
    const apart = length(subtract(tips[0], tips[1]));
    this.#stretch ??= { apart: Math.max(apart, 0.05), scale: panel.scale };
    panel.scale = Math.min(SCALES[1], Math.max(SCALES[0], (this.#stretch.scale * apart) / this.#stretch.apart));
  }
}
