/** The page: one socket, one document, and a headset when there is one. */
import { HeadsetCamera } from "./camera.js";
import { Console } from "./console.js";
import { Feed } from "./feed.js";
import { Headset, abilities } from "./headset.js";
import { NAME_KEY, SESSION_RATE_KEY } from "./keys.js";
import { Link } from "./link.js";
import { describe } from "./model.js";
import { forgetToken, keepToken, pairingToken } from "./pairing.js";
import { decodePicture } from "./protocol.js";
import { Rate } from "./ring.js";
import { poseOf } from "./sample.js";
import { Scene, rayOf } from "./scene.js";

/** What is told changes at most this often, ms: people read, machines need not. */
const TELL_MS = 100;
/** Pause between two requests for the operator’s place while somebody else holds it, ms. */
const CLAIM_MS = 2000;
/** What the server tells is shown in the headset for so long, ms. */
const EVENT_MS = 4000;
/** A hand that squeezes more than this means the robot, not a panel. */
const SQUEEZED = 0.3;

const canvas = document.createElement("canvas");
// The headset's own layer smooths edges, whatever the canvas does.
const gl = canvas.getContext("webgl2", { xrCompatible: true, antialias: false });
const headset = gl && new Headset(gl);
const scene = gl && new Scene(gl);
const frameRate = new Rate(90);

/** Cameras of the present connection. */
let cameras = { welcome: null, feeds: [], byId: new Map() };
/** What the server told last, beside its state. */
let event = { level: "", text: "", at: -Infinity };
let toldAt = -Infinity;
let claimedAt = -Infinity;
let ready = { vr: false, ar: false, reason: "Looking for a headset…" };

const token = pairingToken(location, sessionStorage, history);
const link = new Link(`${location.origin.replace(/^http/, "ws")}/ws`, token, clientName());
const desk = new Console(link, enter, rename);
const headsetCamera = new HeadsetCamera(
  `${location.origin.replace(/^http/, "ws")}/ws/camera?token=${encodeURIComponent(token)}`,
);

function clientName() {
  const name = localStorage.getItem(NAME_KEY) ?? "";
  const device = /Quest/.test(navigator.userAgent)
    ? "Quest"
    : /Android|iPhone/.test(navigator.userAgent)
      ? "phone"
      : "desk";
  return name ? `${name} (${device})` : device;
}

function rename(name) {
  localStorage.setItem(NAME_KEY, name);
  link.client = clientName();
  if (link.status === "open" && !headset?.session) {
    link.close();
    link.open(); // the server learns names from the hello
  }
}

async function enter(mode) {
  if (!headset) return;
  link.want = "operator";
  if (await headset.enter(mode)) {
    claimedAt = performance.now();
    link.claim();
    scene.anchored = false;
    if (link.welcome?.human) headsetCamera.start();
  } else {
    link.want = "observer";
  }
}

/** What the page knows by itself. */
function pageFacts(at) {
  const stale = cameras.feeds.filter((f) => f.stale(at));
  return {
    status: link.status,
    reason: link.reason,
    fix: link.fix,
    retryIn: link.retryIn,
    fresh: link.fresh,
    stateAge: (at - link.stateAt) / 1000,
    role: link.role,
    operator: link.operator,
    roundTrip: headset?.session ? link.roundTrips.percentile(0.5) : null,
    frameRate: headset?.session ? frameRate.at(at) : (link.state?.latency?.frame_hz ?? null),
    headset: headsetReason(),
    congested: link.congested,
    event: headset?.session && at - event.at < EVENT_MS ? event : null,
    human: Boolean(link.welcome?.human),
    cameras: Object.fromEntries(stale.map((f) => [f.name, (at - f.arrivedAt) / 1000])),
  };
}

function headsetReason() {
  if (headset?.reason) return headset.reason;
  if (headset?.session && headsetCamera.reason) return headsetCamera.reason;
  if (headset?.session && link.status === "open" && link.role !== "operator") {
    return link.operator ? `${link.operator} drives the robot; you only watch.` : "Asking for the robot…";
  }
  return "";
}

function tell(at) {
  if (at - toldAt < TELL_MS) return;
  toldAt = at;
  const page = pageFacts(at);
  const told = describe(link.state, page);
  desk.show(told, link.state, page);
  if (headset?.session) scene.tell(told, at);
}

// ---- the socket

link.addEventListener("change", () => {
  toldAt = -Infinity;
  if (link.status !== "open") {
    for (const feed of cameras.feeds) feed.clear();
    if (link.status === "refused") askToken();
  } else if (link.welcome !== cameras.welcome) {
    greet(link.welcome);
  }
});
function greet(welcome) {
  const shown = (id, sequence, held) => link.shown(id, sequence, held);
  const byId = new Map((welcome.cameras ?? []).map((camera) => [camera.id, new Feed(camera, shown)]));
  cameras = { welcome, byId, feeds: [...byId.values()] };
  scene?.setFeeds(cameras.feeds);
  desk.setFeeds(cameras.feeds);
  desk.setMapping(welcome.mapping);
  document.getElementById("robot").textContent = welcome.robot ? ` · robot ${welcome.robot}` : "";
}
link.addEventListener("picture", ({ detail: { message, at } }) => {
  const picture = decodePicture(message);
  cameras.byId.get(picture.camera)?.offer(picture, at);
});
link.addEventListener("haptic", ({ detail }) => headset?.pulse(detail.hand, detail.intensity, detail.ms));
link.addEventListener("panels", ({ detail }) => {
  if (detail.do === "reanchor" && scene) scene.anchored = false;
});
link.addEventListener("event", ({ detail }) => {
  event = { ...detail, at: performance.now() };
  desk.toast(detail.level, detail.text);
});
link.addEventListener("result", ({ detail }) => {
  if (!detail.ok) desk.toast("warn", detail.message);
});

// ---- the headset

headset?.addEventListener("frame", ({ detail: { frame, sample, space, session } }) => {
  const at = performance.now();
  frameRate.tick(at);
  link.sendFrame(sample, at); // before anything is drawn: the robot waits, the eye does not
  if (link.status === "open" && link.role !== "operator" && at - claimedAt > CLAIM_MS) {
    claimedAt = at;
    link.claim();
  }
  const viewer = frame.getViewerPose(space);
  if (!viewer) return;
  if (!scene.anchored) {
    scene.panels.anchor(sample.head.pose.position, sample.head.pose.orientation);
    scene.anchored = true;
  }
  const rays = pointing(frame, space, session, sample);
  scene.panels.move(rays, sample.head.pose.position);
  tell(at);
  scene.takePictures(at);
  const hands = link.fresh ? link.state.hands : null;
  scene.draw(session.renderState.baseLayer, viewer.views, {
    passthrough: headset.passthrough,
    sample,
    hands,
    rays,
    now: at,
  });
});
headset?.addEventListener("change", () => {
  toldAt = -Infinity;
  desk.abilities(ready, Boolean(headset.session));
});
headset?.addEventListener("note", ({ detail }) => link.log("info", detail));
headset?.addEventListener("end", () => {
  if (frameRate.at(performance.now()))
    sessionStorage.setItem(SESSION_RATE_KEY, String(frameRate.at(performance.now())));
  frameRate.clear();
  headsetCamera.stop();
  link.release();
});

/** Rays of the hands that may take a panel: seen, and not busy with the robot. */
function pointing(frame, space, session, sample) {
  const rays = new Map();
  for (const source of session.inputSources) {
    const side = source.handedness;
    const hand = sample[side];
    const driving = link.fresh && link.role === "operator" && link.state.hands[side]?.engaged;
    const pose =
      hand?.tracked && !driving && hand.squeeze < SQUEEZED ? frame.getPose(source.targetRaySpace, space) : null;
    if (!pose) continue;
    const ray = rayOf(poseOf(pose));
    rays.set(side, ray);
    scene.panels.squeeze(side, ray, hand.trigger);
  }
  return rays;
}

// ---- the document

function draw() {
  requestAnimationFrame(draw);
  tell(performance.now());
  if (!headset?.session) desk.takePictures(performance.now()); // else they go to the headset
}

addEventListener("pagehide", () => link.close());
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) link.open();
});
addEventListener("error", ({ message }) => fault(message));
addEventListener("unhandledrejection", ({ reason }) => fault(String(reason?.message ?? reason)));
function fault(message) {
  link.log("error", message);
  desk.toast("error", `The page has a fault: ${message}`);
}
canvas.addEventListener("webglcontextlost", () => headset.leave("The headset’s graphics were lost. Enter again."));

document.getElementById("pairing-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(sessionStorage, document.getElementById("token").value);
  location.reload();
});

function askToken() {
  forgetToken(sessionStorage);
  const dialog = document.getElementById("pairing");
  if (!dialog.open) dialog.showModal();
}

desk.name = localStorage.getItem(NAME_KEY) ?? "";
link.want = "observer"; // the robot goes to who enters with a headset
if (token) link.open();
else askToken();
requestAnimationFrame(draw);
ready = gl
  ? await abilities(navigator, isSecureContext)
  : { vr: false, ar: false, reason: "This browser has no WebGL 2." };
navigator.xr?.addEventListener?.("devicechange", async () => {
  ready = await abilities(navigator, isSecureContext);
  desk.abilities(ready, Boolean(headset?.session));
});
desk.abilities(ready, false);
