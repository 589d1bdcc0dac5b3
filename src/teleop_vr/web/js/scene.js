/** What hangs in the headset: the cameras' panels, what the operator is told, and the commanded hands. */
import { add, compose, length, matrix, rotate, scale, subtract, unit } from "./maths.js";
import { Panels } from "./panels.js";
import { Renderer, Texture } from "./renderer.js";
import { Sheet, paintCaption, paintCard, paintOverlay, paintStatus, paintWarnings } from "./hud.js";
import { cameraLabel } from "./model.js";

const DARK = [0.055, 0.07, 0.09, 1];
const CLEAR = [0, 0, 0, 0];
const FLOOR = [0.36, 0.44, 0.54, 0.35];
const HANDS = Object.freeze({ left: [0.27, 0.75, 0.82], right: [0.95, 0.66, 0.3] });
const RIM = Object.freeze({
  rest: [1, 1, 1, 0.1],
  pointed: [0.42, 0.7, 1, 0.7],
  held: [0.42, 0.7, 1, 1],
  recording: [1, 0.36, 0.36, 0.9],
});
/** A command further from the hand than this (m) is joined to it by a line. */
const APART = 0.03;
/** Width of a picture's caption as a share of the panel, and the panel's of the overlay. */
const CAPTION = 0.55;
const OVERLAY = 0.56;

export class Scene {
  panels = new Panels();

  #renderer;
  #gl;
  #feeds = [];
  #textures = new Map();
  #sheets;
  #captions = new Map();
  #overlay = null;
  /** The scene card's drawing. */
  #drawing = new Image();

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.#gl = gl;
    this.#renderer = new Renderer(gl);
    this.#sheets = {
      status: this.#sheet(1280, 236, paintStatus),
      warnings: this.#sheet(1280, 176, paintWarnings),
      overlay: this.#sheet(900, 420, paintOverlay),
      scene: this.#sheet(640, 660, (pen, card, ...size) => paintCard(pen, card, this.#drawing, ...size)),
    };
  }

  /** Show these cameras. @param {import("./feed.js").Feed[]} feeds */
  setFeeds(feeds) {
    this.#feeds = feeds;
    this.#textures = new Map(feeds.map((feed) => [feed, new Texture(this.#gl)]));
    this.#captions = new Map(
      [...new Set(feeds.map((f) => f.name))].map((name) => [name, this.#sheet(640, 60, paintCaption)]),
    );
  }

  /** Put what `describe` tells on the panels. */
  tell(told, now) {
    this.#show(this.#sheets.status, {
      headline: told.headline,
      episode: told.episode,
      latency: told.latency,
      hands: told.hands,
    });
    this.#show(this.#sheets.warnings, { warnings: told.warnings });
    this.panels.all.get("warnings").visible = told.warnings.length > 0;
    this.#showCard(told.episode.card);
    this.#overlay = overlayOf(told);
    if (this.#overlay) this.#show(this.#sheets.overlay, this.#overlay);
    for (const [name, caption] of this.#captions) {
      const feed = this.#feeds.find((f) => f.name === name);
      const age = (now - feed.arrivedAt) / 1000;
      const stale = !feed.stale(now)
        ? ""
        : Number.isFinite(age)
          ? `no picture for ${age.toFixed(age < 10 ? 1 : 0)} s`
          : "no picture yet";
      this.#show(caption, { name: cameraLabel(name), stale });
    }
    this.recording = told.episode.state === "RECORDING";
  }

  /** Put the newest pictures on the graphics card. */
  takePictures(now) {
    for (const feed of this.#feeds) {
      const picture = feed.take(now);
      if (!picture) continue;
      this.#textures.get(feed).load(picture);
      const panel = this.panels.all.get(feed.name);
      if (panel) panel.aspect = picture.width / picture.height;
    }
  }

  /**
   * Draw all eyes.
   * @param {XRWebGLLayer} layer
   * @param {readonly XRView[]} views
   * @param {object} what
   * @param {boolean} what.passthrough the room is seen behind
   * @param {import("./protocol.js").Frame} what.sample where the operator's hands are
   * @param {object|null} what.hands commanded hands of the robot's state
   * @param {Map<string, object>} what.rays of hands that point
   * @param {number} what.now ms
   */
  draw(layer, views, { passthrough, sample, hands, rays, now }) {
    this.#renderer.begin(layer, passthrough ? CLEAR : DARK);
    for (const view of views) {
      this.#renderer.look(layer.getViewport(view), view.projectionMatrix, view.transform.inverse.matrix);
      if (!passthrough) this.#renderer.floor(FLOOR);
      this.#drawPanels(view.eye, rays, now);
      for (const side of ["left", "right"]) this.#drawHand(side, sample[side], hands?.[side] ?? null);
      this.#drawRays(rays);
    }
  }

  #showCard(card) {
    this.panels.all.get("scene").visible = card !== null;
    if (!card) return;
    if (card.picture && this.#drawing.src !== card.picture) this.#drawing.src = card.picture;
    // It is painted again when the drawing, which loads beside, is there.
    const drawn = Boolean(card.picture) && this.#drawing.complete && this.#drawing.naturalWidth > 0;
    this.#show(this.#sheets.scene, { ...card, drawn });
  }

  #drawPanels(eye, rays, now) {
    const pointed = new Set([...rays.values()].map((ray) => this.panels.pick(ray)?.id));
    const held = new Set(["left", "right"].map((hand) => this.panels.held(hand)));
    for (const panel of this.panels.all.values()) {
      if (!panel.visible) continue;
      const rim = held.has(panel.id) ? RIM.held : pointed.has(panel.id) ? RIM.pointed : RIM.rest;
      const sheet = this.#sheets[panel.id];
      if (sheet)
        this.#flat(sheet.texture, panel.pose, panel.width, panel.aspect, { rim: rim === RIM.rest ? undefined : rim });
      else this.#drawCamera(panel, eye, rim, now);
    }
    const head = this.panels.all.get("head");
    if (this.#overlay) {
      const pose = compose(head.pose, { position: [0, 0, 0.06], orientation: [0, 0, 0, 1] });
      this.#flat(this.#sheets.overlay.texture, pose, head.width * OVERLAY, 900 / 420, {});
    }
  }

  #drawCamera(panel, eye, rim, now) {
    const feeds = this.#feeds.filter((f) => f.name === panel.id);
    const feed = feeds.find((f) => f.eye === eye) ?? feeds.find((f) => f.eye === "both") ?? feeds[0];
    if (!feed) return;
    const texture = this.#textures.get(feed);
    const look = {
      rim: this.recording && rim === RIM.rest && panel.id === "head" ? RIM.recording : rim,
      dim: feed.stale(now) ? 0.35 : 1,
    };
    if (texture.width) this.#flat(texture, panel.pose, panel.width, panel.aspect, look);
    const caption = this.#captions.get(panel.id);
    const width = Math.min(panel.width * CAPTION, 0.5);
    const height = panel.width / panel.aspect;
    const corner = [-panel.width / 2 + width / 2 + 0.02, height / 2 - width / (640 / 60) / 2 - 0.02, 0.012];
    this.#flat(caption.texture, compose(panel.pose, { position: corner, orientation: [0, 0, 0, 1] }), width, 640 / 60, {
      rounding: 0,
    });
  }

  #flat(texture, pose, width, aspect, look) {
    if (!texture.width) return;
    this.#renderer.panel(texture, matrix(pose, [width, width / aspect, 1]), [width, width / aspect], look);
  }

  #drawHand(side, hand, commanded) {
    const colour = HANDS[side];
    if (hand.tracked) this.#renderer.box(matrix(hand.pose, [0.03, 0.03, 0.07]), [0.75, 0.8, 0.86, 0.9]);
    if (!commanded?.ghost) return;
    const pose = { position: commanded.ghost.slice(0, 3), orientation: commanded.ghost.slice(3) };
    const tint = [...colour, commanded.engaged ? 0.72 : 0.3];
    const box = (position, size) => {
      this.#renderer.box(matrix(compose(pose, { position, orientation: [0, 0, 0, 1] }), size), tint);
    };
    const gap = 0.0425 * (1 - (commanded.gripper ?? 0)); // of each finger, m; the robot's full stroke
    box([0, 0, 0.03], [0.11, 0.035, 0.05]);
    box([-gap - 0.006, 0, -0.03], [0.012, 0.022, 0.07]);
    box([gap + 0.006, 0, -0.03], [0.012, 0.022, 0.07]);
    if (hand.tracked && length(subtract(pose.position, hand.pose.position)) > APART) {
      this.#line(hand.pose.position, pose.position, 0.004, [...colour, 0.8]);
    }
  }

  #drawRays(rays) {
    for (const ray of rays.values()) {
      const reach = this.panels.pick(ray)?.distance;
      if (reach) this.#line(ray.origin, add(ray.origin, scale(ray.direction, reach)), 0.003, [0.6, 0.78, 1, 0.5]);
    }
  }

  #line(from, to, thickness, tint) {
    const span = subtract(to, from);
    const distance = length(span);
    if (!(distance > 0)) return;
    const orientation = turn(unit(span));
    this.#renderer.box(
      matrix({ position: add(from, scale(span, 0.5)), orientation }, [thickness, thickness, distance]),
      tint,
    );
  }

  #sheet(width, height, paint) {
    return Object.assign(new Sheet(width, height, paint), { texture: new Texture(this.#gl) });
  }

  #show(sheet, content) {
    if (sheet.show(content)) sheet.texture.load(sheet.canvas, true);
  }
}

/** Rotation that takes -z to a unit vector by the shortest way. */
function turn(to) {
  const from = [0, 0, -1];
  const w = 1 - to[2];
  if (w < 1e-6) return [1, 0, 0, 0]; // straight back
  const q = [
    from[1] * to[2] - from[2] * to[1],
    from[2] * to[0] - from[0] * to[2],
    from[0] * to[1] - from[1] * to[0],
    w,
  ];
  const n = Math.hypot(...q);
  return q.map((v) => v / n);
}

/** What lies over the main view, the gravest first, or null. */
export function overlayOf({ headline, prompt, episode, live }) {
  if (!live || headline.tone === "danger") {
    const kind = headline.tone === "danger" ? "stop" : "note";
    return { kind, title: headline.text, text: headline.detail, hint: live ? "The robot holds" : "" };
  }
  if (prompt) {
    const answers = [`${prompt.confirm} = ${prompt.kind}`, `${prompt.cancel} = back`, `${Math.ceil(prompt.left_s)} s`];
    const hint = answers.join("      ");
    return { kind: "ask", title: prompt.text, text: episode.task, hint };
  }
  if (episode.countdown)
    return { kind: "countdown", title: String(episode.countdown), text: episode.task || "Recording starts", hint: "" };
  return null;
}

/** Ray of a pose: where it points, along its -z axis. */
export function rayOf({ position, orientation }) {
  return { origin: position, orientation, direction: rotate(orientation, [0, 0, -1]) };
}
