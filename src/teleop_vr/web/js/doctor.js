/** The doctor page: examines device, connection and robot, and says how to put right what is wrong. */
import * as checks from "./checks.js";
import { abilities } from "./headset.js";
import { pairingToken } from "./pairing.js";
import { FRAME_BYTES } from "./protocol.js";
import { SESSION_RATE_KEY } from "./keys.js";

const PINGS = 150;
const PING_PAUSE_MS = 20;
const PATIENCE_MS = 2000;

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function displayRate() {
  const times = [];
  await new Promise((resolve) => {
    const step = (t) => (times.push(t) < 60 ? requestAnimationFrame(step) : resolve());
    requestAnimationFrame(step);
    setTimeout(resolve, PATIENCE_MS); // a page in the background draws nothing
  });
  return times.length < 2 ? 0 : (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
}

async function decodes() {
  const canvas = new OffscreenCanvas(8, 8);
  canvas.getContext("2d").fillRect(0, 0, 8, 8);
  const blob = await canvas.convertToBlob({ type: "image/jpeg" });
  const picture = await createImageBitmap(blob).catch(() => null);
  return picture?.width === 8;
}

/** Open the echo socket. @returns {Promise<{socket: WebSocket|null, ms: number|null, reason: string}>} */
function connect(token) {
  const begin = performance.now();
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws/echo?token=${encodeURIComponent(token)}`);
  socket.binaryType = "arraybuffer";
  let refusal = "";
  return new Promise((resolve) => {
    const fail = (reason) => resolve({ socket: null, ms: null, reason });
    socket.addEventListener("open", async () => {
      const ms = performance.now() - begin;
      await pause(150); // a refusal comes right after opening
      if (!refusal && socket.readyState === WebSocket.OPEN) resolve({ socket, ms, reason: "" });
    });
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") refusal = JSON.parse(data).reason;
    });
    socket.addEventListener("close", () => fail(refusal || "closed at once"));
    setTimeout(() => fail("no answer"), 2 * PATIENCE_MS);
  });
}

async function roundTrips(socket) {
  const trips = [];
  socket.addEventListener("message", ({ data }) => {
    if (typeof data !== "string") trips.push(performance.now() - new DataView(data).getFloat64(0, true));
  });
  for (let i = 0; i < PINGS; i++) {
    const message = new DataView(new ArrayBuffer(FRAME_BYTES)); // as long as what a headset sends
    message.setFloat64(0, performance.now(), true);
    socket.send(message);
    await pause(PING_PAUSE_MS);
  }
  const end = performance.now() + PATIENCE_MS;
  while (trips.length < PINGS && performance.now() < end) await pause(20);
  socket.close();
  return trips;
}

async function serverSays(token) {
  const answer = await fetch("/api/doctor", { headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

function show(id, found) {
  $(id).replaceChildren(
    ...found.map(({ name, tone, value, fix }) => {
      const item = document.createElement("li");
      item.dataset.tone = tone;
      for (const [kind, words] of [
        ["name", name],
        ["value", value],
        ["fix", fix],
      ]) {
        item.append(Object.assign(document.createElement("span"), { className: kind, textContent: words }));
      }
      return item;
    }),
  );
}

async function examine() {
  $("again").hidden = true;
  Object.assign($("verdict").dataset, { tone: "muted" });
  const token = pairingToken(location, sessionStorage, history);
  const last = sessionStorage.getItem(SESSION_RATE_KEY);
  const device = [
    checks.secureCheck(isSecureContext, location.protocol),
    checks.headsetCheck(await abilities(navigator, isSecureContext)),
    checks.displayCheck(await displayRate()),
    checks.sessionCheck(last === null ? null : Number(last)),
    checks.decodeCheck(await decodes()),
  ];
  show("device", device);
  const { socket, ms, reason } = token
    ? await connect(token)
    : { socket: null, ms: null, reason: "this tab has no token: open the address that ./bytemini teleop prints" };
  const said = token ? await serverSays(token) : null;
  const connection = [
    ...(location.protocol === "https:" ? [checks.certificateCheck(said?.tls ?? null, Date.now())] : []),
    checks.socketCheck(ms, reason),
    ...(socket ? checks.tripChecks(await roundTrips(socket), PINGS) : []),
  ];
  show("connection", connection);
  const robot = checks.serverChecks(said?.checks ?? []);
  show(
    "robot",
    robot.length
      ? robot
      : [{ name: "Server", tone: "danger", value: "said nothing about the robot", fix: "Pair this tab first." }],
  );
  const { tone, text, detail } = checks.verdict([...device, ...connection, ...robot]);
  $("verdict").dataset.tone = tone;
  $("verdict-text").textContent = text;
  $("verdict-detail").textContent = detail;
  $("again").hidden = false;
}

const port = location.port || "443";
$("adb").textContent = `adb reverse tcp:${port} tcp:${port}`;
$("local").textContent = `https://localhost:${port}`;
$("again").addEventListener("click", examine);
await examine();
