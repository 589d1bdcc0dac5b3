// The operator's page: one socket, everything it says on screen, and what the operator asks.
import { RobotView, forward } from "./robot3d.js";
import { PLOTS, Plot } from "./plots.js";

const $ = (id) => document.getElementById(id);
const SILENT = 1500; // ms without a state after which what is shown counts as old
const OLD_PICTURE = 1500;

// The token comes in the fragment, which servers do not see, and stays in this tab.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem("token") ?? "";

let socket = null, retry = 500, heard = 0, number = 0, bucket = null, newest = null, refused = "";
const asked = new Map();
const plots = PLOTS.map((spec) => new Plot(spec, $("plot-list")));
const cameras = [];
let view = null;
try { view = new RobotView($("pose")); } catch (error) { $("no-pose").textContent = `No 3D view: ${error.message}`; }
$("robot").classList.add("empty");

function note(text, bad = false) {
  const line = $("note");
  line.textContent = text;
  line.hidden = !text;
  line.classList.toggle("bad", bad);
  clearTimeout(note.timer);
  if (text) note.timer = setTimeout(() => note(""), bad ? 12000 : 5000);
}

function ask(request) {
  if (!socket || socket.readyState !== WebSocket.OPEN) {
    note("Not sent: there is no connection to the robot.", true);
    return false;
  }
  const id = ++number;
  asked.set(id, request.type);
  socket.send(JSON.stringify({ ...request, id }));
  return true;
}

// One press is enough, and it goes out on both ways: the open socket, and a request of its own.
function stop() {
  document.body.classList.add("stopped");
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "estop", id: ++number }));
  fetch("/api/estop", { method: "POST", headers: { Authorization: `Bearer ${token}` }, keepalive: true })
    .then((answer) => { if (!answer.ok) throw new Error(`the server refused: ${answer.status}`); note("Stop was sent."); })
    .catch((error) => note(`STOP may not have arrived (${error.message}): use the hardware stop!`, true));
}
$("estop").addEventListener("pointerdown", (event) => { event.preventDefault(); stop(); });
$("estop").addEventListener("keydown", (event) => { if (["Enter", " "].includes(event.key)) { event.preventDefault(); if (!event.repeat) stop(); } });
$("estop").addEventListener("click", (event) => { if (event.detail === 0) stop(); }); // assistive technology

$("reset").addEventListener("click", () => { $("sure").returnValue = "no"; $("sure").showModal(); });
$("sure").addEventListener("close", () => { if ($("sure").returnValue === "yes") ask({ type: "reset", confirmed: true }); });
$("hold").addEventListener("click", () => ask({ type: "hold" }));
$("cancel").addEventListener("click", () => ask({ type: "cancel" }));
$("save").addEventListener("click", () => ask({ type: "save" }));
$("run").addEventListener("submit", (event) => {
  event.preventDefault();
  const limit = $("limit").value === "" ? 0 : Number($("limit").value);
  ask({ type: "run", instruction: $("instruction").value, time_limit: limit });
});

// ---- what comes

function connect() {
  if (!token) {
    $("link").textContent = "no token";
    note("This address has no token: open the one that ./bytemini panel printed.", true);
    return;
  }
  socket = new WebSocket(`wss://${location.host}/ws?token=${encodeURIComponent(token)}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : picture(event.data));
  socket.onopen = () => { retry = 500; refused = ""; };
  socket.onclose = (event) => {
    if (event.code === 4001) { $("link").textContent = "wrong token"; note(refused, true); return; }
    setTimeout(connect, retry);
    retry = Math.min(2 * retry, 4000);
  };
}

function hear(message) {
  const { type } = message;
  if (type === "welcome") welcome(message);
  else if (type === "figure") setFigure(message.figure);
  else if (type === "pose") { if (view) view.set(message.joints, message.base); }
  else if (type === "state") state(message);
  else if (type === "answer") {
    asked.delete(message.id);
    note(message.text, !message.ok);
  } else if (type === "refused") refused = `${message.reason}: ${message.fix}`;
}

function welcome(message) {
  setFigure(message.figure);
  plots.forEach((plot) => plot.begin(message.history));
  bucket = null;
  if (message.namespace && message.namespace !== "/") document.title = `ByteMini ${message.namespace}`;
  if (cameras.length) return;
  for (const name of message.cameras) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), old = document.createElement("div");
    caption.textContent = name.replace("_", " ");
    old.className = "old";
    figure.className = "stale";
    figure.dataset.camera = name;
    old.textContent = "no picture yet";
    figure.append(canvas, caption, old);
    $("cameras").append(figure);
    cameras.push({ figure, canvas, old, at: 0, decoding: false, count: 0 });
  }
}

function setFigure(figure) {
  if (!figure || !view) return;
  view.figure = figure;
  $("robot").classList.remove("empty");
  view.draw();
}

async function picture(data) {
  const head = new DataView(data), camera = cameras[head.getUint8(0)];
  if (!camera || camera.decoding) return; // a newer one comes soon
  camera.decoding = true;
  try {
    const image = await createImageBitmap(new Blob([new Uint8Array(data, 16)], { type: "image/jpeg" }));
    if (camera.canvas.width !== image.width || camera.canvas.height !== image.height) {
      camera.canvas.width = image.width;
      camera.canvas.height = image.height;
    }
    camera.canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
    camera.at = performance.now();
    camera.count++;
    camera.figure.classList.remove("stale");
  } finally {
    camera.decoding = false;
  }
}

function state(message) {
  heard = performance.now();
  newest = message;
  document.body.classList.remove("lost");
  const stopped = message.mode === "ESTOP";
  document.body.classList.toggle("stopped", stopped);
  $("mode").className = `mode ${message.mode}`;
  $("mode-name").textContent = message.mode === "ESTOP" ? "STOPPED" : message.mode || "–";
  $("mode-reason").textContent = message.reason || (message.mode ? "" : "no whole-body controller yet");
  $("reset").hidden = !stopped;
  $("go").disabled = stopped;
  $("link").textContent = "live";
  task(message.task);
  faults(message.faults);
  nodes(message.nodes);
  $("topics").textContent = Object.entries(message.topics).map(([name, rate]) => `${name} ${rate} Hz`).join("  ·  ");
  const { bucket: at, last } = message.points;
  const fresh = bucket === null ? 0 : Math.min(at - bucket, 10);
  bucket = at;
  plots.forEach((plot) => plot.add(last, fresh));
}

function task(now) {
  $("progress").hidden = !now.status;
  $("cancel").disabled = !now.running;
  if (!now.status) return;
  $("task-status").textContent = now.status;
  $("task-status").style.color = { TERMINATED: "var(--good)", ONGOING: "var(--blue)", asked: "var(--dim)" }[now.status] ?? "var(--warn)";
  $("task-text").textContent = now.instruction + (now.message ? ` — ${now.message}` : "");
  $("bar").hidden = !now.running && now.status !== "TERMINATED";
  const share = now.progress ?? (now.running && now.time_limit ? now.elapsed / now.time_limit : now.running ? null : 1);
  if (share === null) $("bar").removeAttribute("value"); else $("bar").value = Math.min(share, 1);
  const parts = [`${now.elapsed.toFixed(1)} s${now.time_limit ? ` of ${now.time_limit.toFixed(0)} s` : ""}`, `${now.chunks} chunks`];
  if (now.phase) parts.unshift(now.phase);
  if (now.progress !== null) parts.push(`${Math.round(100 * now.progress)} % done`);
  else if (now.running && now.time_limit) parts.push("bar: time used");
  if (now.running && now.confidence !== null) parts.push(`confidence ${now.confidence}`);
  $("task-numbers").textContent = parts.join("  ·  ");
}

function faults(list) {
  const key = JSON.stringify(list);
  if (faults.key === key) return;
  faults.key = key;
  $("fault-list").replaceChildren(...(list.length ? list.map(fault) : [calm()]));
}

function calm() {
  const item = document.createElement("li");
  item.className = "calm dim";
  item.textContent = "none since the page's server started";
  return item;
}

function fault(entry) {
  const item = document.createElement("li");
  const [head, what, fix] = ["div", "div", "div"].map((tag) => document.createElement(tag));
  head.className = "dim";
  head.textContent = `${new Date(1000 * entry.wall).toLocaleTimeString()}  ${entry.source}${entry.count > 1 ? `  ×${entry.count}` : ""}`;
  what.className = "what";
  what.textContent = entry.text;
  fix.className = "fix";
  fix.textContent = `→ ${entry.fix}`;
  item.append(head, what, fix);
  return item;
}

const UNITS = { _rate: "Hz", _ms: "ms", _c: "°C", _percent: "%", _ppm: "ppm", _v: "V", _w: "W", _n: "N", _mb: "MB" };

function nodes(list) {
  const rows = list.map((node) => {
    const row = document.createElement("tr");
    row.className = `l${node.level}`;
    row.dataset.node = node.name;
    const cells = [0, 1, 2].map(() => document.createElement("td"));
    cells[0].textContent = node.name;
    cells[1].textContent = node.message || "fine";
    cells[2].className = "numbers";
    for (const [key, value] of Object.entries(node.values)) {
      if (value === "") continue;
      const suffix = Object.keys(UNITS).find((end) => key.endsWith(end));
      const span = document.createElement("span"), bold = document.createElement("b");
      span.append(`${(suffix ? key.slice(0, -suffix.length) : key).replaceAll("_", " ")} `, bold);
      bold.textContent = `${value}${suffix ? ` ${UNITS[suffix]}` : ""}`;
      cells[2].append(span);
    }
    row.append(...cells);
    return row;
  });
  $("nodes").replaceChildren(...rows);
}

setInterval(() => {
  const now = performance.now();
  const lost = now - heard > SILENT;
  document.body.classList.toggle("lost", lost);
  if (lost && token) $("link").textContent = heard ? `silent for ${((now - heard) / 1000).toFixed(0)} s` : "not connected";
  for (const camera of cameras) {
    const age = now - camera.at;
    if (camera.at && age > OLD_PICTURE) {
      camera.figure.classList.add("stale");
      camera.old.textContent = `no new picture for ${(age / 1000).toFixed(0)} s`;
    }
  }
}, 250);

// For tests: what the page holds.
window.panel = { forward, get state() { return newest; }, get view() { return view; }, cameras };
connect();
