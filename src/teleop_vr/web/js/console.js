/** The page at the desk: puts what `describe` tells into the document, and clicks into commands. */
import { cameraLabel } from "./model.js";

const $ = (id) => document.getElementById(id);
const TOAST_MS = 6000;

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function tone(element, value) {
  if (element.dataset.tone !== value) element.dataset.tone = value;
}

function allow(button, { enabled, why }) {
  button.disabled = !enabled;
  button.title = why;
}

/** Fill a list with items made from values, only if they differ from those shown. */
function list(element, values, make) {
  const key = JSON.stringify(values);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  element.replaceChildren(...values.map(make));
}

function node(tag, content, attributes = {}) {
  const out = document.createElement(tag);
  out.append(content);
  Object.assign(out.dataset, attributes);
  return out;
}

export class Console {
  #feeds = [];
  #canvases = new Map();

  /**
   * @param {import("./link.js").Link} link
   * @param {(mode: string) => void} enter begins a session
   * @param {(name: string) => void} rename
   */
  constructor(link, enter, rename) {
    const command = (name, more) => () => link.command(name, more);
    $("estop").addEventListener("click", command("estop"));
    $("start").addEventListener("click", command("start"));
    $("save").addEventListener("click", command("save"));
    $("discard").addEventListener("click", command("discard"));
    $("confirm").addEventListener("click", () => link.command("confirm"));
    $("confirm-failure").addEventListener("click", command("confirm", { success: false }));
    $("cancel").addEventListener("click", command("cancel"));
    $("pause").addEventListener("click", () => link.command($("pause").dataset.command));
    $("lock").addEventListener("click", () => link.command($("lock").dataset.command));
    $("reset").addEventListener("click", () => $("reset-dialog").showModal());
    $("reset-no").addEventListener("click", () => $("reset-dialog").close());
    $("reset-yes").addEventListener("click", () => {
      $("reset-dialog").close();
      link.command("reset", { confirmed: true });
    });
    $("enter-vr").addEventListener("click", () => enter("immersive-vr"));
    $("enter-ar").addEventListener("click", () => enter("immersive-ar"));
    $("name").addEventListener("change", () => rename($("name").value.trim()));
  }

  /** Say what the headset can do, or why it cannot. */
  abilities({ vr, ar, reason }, running) {
    $("enter-vr").disabled = !vr || running;
    $("enter-ar").disabled = !ar || running;
    text($("headset-note"), running ? "The headset is in use." : reason);
  }

  /** The name the operator gave before. */
  set name(value) {
    $("name").value = value;
  }

  /** Show the cameras of a welcome. */
  setFeeds(feeds) {
    this.#feeds = feeds;
    const names = [...new Set(feeds.map((f) => f.name))];
    this.#canvases = new Map(names.map((name) => [name, document.createElement("canvas")]));
    const figures = names.map((name) => {
      const figure = node("figure", this.#canvases.get(name), { camera: name });
      figure.append(node("figcaption", cameraLabel(name)));
      return figure;
    });
    if (!figures.length) figures.push(Object.assign(node("p", "The robot has no camera"), { className: "empty" }));
    $("cameras").replaceChildren(...figures);
  }

  /** Show which control does what. */
  setMapping(rows) {
    $("mapping").replaceChildren(
      ...(rows ?? []).map((row) => {
        const line = document.createElement("tr");
        line.append(...[row.control, row.does, row.when ?? ""].map((cell) => node("td", cell)));
        return line;
      }),
    );
  }

  /** Draw the newest pictures. */
  takePictures(now) {
    for (const feed of this.#feeds) {
      const picture = feed.take(now);
      if (!picture || feed.eye === "right") continue; // one eye is enough on a flat screen
      const canvas = this.#canvases.get(feed.name);
      if (canvas.width !== picture.width || canvas.height !== picture.height) {
        canvas.width = picture.width;
        canvas.height = picture.height;
      }
      canvas.getContext("2d").drawImage(picture, 0, 0);
    }
  }

  /** Show everything else. */
  show(told, state, page) {
    text($("link"), told.link.text);
    tone($("link"), told.link.tone);
    const own = page.role === "operator";
    text($("role"), own ? "You drive" : page.operator ? `${page.operator} drives` : "Watching");
    tone($("role"), own ? "ok" : page.operator ? "info" : "muted");
    text($("headline-text"), told.headline.text);
    text($("headline-detail"), told.headline.detail);
    tone($("headline"), told.headline.tone);
    list($("warnings"), told.warnings, (w) => node("li", w.text, { tone: w.tone, code: w.code }));
    this.#showEpisode(told);
    this.#showRobot(told, state);
    this.#showLink(told);
    allow($("estop"), told.buttons.estop);
    $("reset").hidden = !told.buttons.reset.enabled;
    if (!told.buttons.reset.enabled && $("reset-dialog").open) $("reset-dialog").close();
    for (const figure of $("cameras").querySelectorAll("figure")) {
      const feed = this.#feeds.find((f) => f.name === figure.dataset.camera);
      figure.toggleAttribute("data-stale", feed.stale(performance.now()));
      figure.toggleAttribute("data-recording", told.episode.state === "RECORDING");
    }
  }

  /** A line that goes away by itself. */
  toast(level, words) {
    const item = node("li", words, { tone: { error: "danger", warn: "warn" }[level] ?? "info" });
    $("toasts").append(item);
    while ($("toasts").children.length > 4) $("toasts").firstChild.remove();
    setTimeout(() => item.remove(), TOAST_MS);
  }

  #showEpisode({ episode, prompt, buttons }) {
    text($("episode-title"), episode.title);
    const doing = episode.countdown
      ? `Starts in ${episode.countdown}`
      : [episode.text, episode.time].filter(Boolean).join(" ");
    text($("episode-state"), episode.state ? doing : "");
    tone($("episode-state"), episode.tone);
    text($("task"), episode.task);
    $("scene").hidden = !episode.card;
    list($("scene-steps"), episode.card?.steps ?? [], (step) => node("li", step));
    const picture = episode.card?.picture ?? "";
    $("scene-picture").hidden = !picture;
    if (picture && $("scene-picture").getAttribute("src") !== picture) $("scene-picture").src = picture;
    const quality = episode.quality ? `last one: ${episode.quality}` : "";
    text($("episode-note"), [episode.saved, quality, episode.dataset].filter(Boolean).join(" · "));
    allow($("start"), buttons.start);
    allow($("save"), buttons.save);
    allow($("discard"), buttons.discard);
    $("prompt").hidden = !prompt;
    if (prompt) {
      const save = prompt.kind === "save";
      text($("prompt-text"), `${prompt.text} (${Math.ceil(prompt.left_s)} s)`);
      text($("confirm"), save ? "Save" : "Discard");
      $("confirm").classList.toggle("grave", !save);
      $("confirm-failure").hidden = !save;
      text($("cancel"), save ? "Back" : "Keep it");
    }
  }

  #showRobot({ live, hands, buttons }, state) {
    text($("mode"), live ? state.mode : "");
    $("mode").title = live ? state.mode_reason : "";
    tone($("mode"), { TELEOP: "ok", ESTOP: "danger", POLICY: "info" }[state?.mode] ?? "muted");
    for (const side of ["left", "right"]) {
      const hand = hands[side];
      const force = hand?.force > 1 ? ` · ${hand.force.toFixed(0)} N` : "";
      text($(`${side}-text`), hand ? `${hand.text}${force}` : "–");
      tone($(`${side}-text`), hand?.tone ?? "muted");
      $(`${side}-gripper`).style.width = `${100 * (hand?.gripper ?? 0)}%`;
    }
    const twist = state?.base?.twist;
    const base = state?.base?.locked ? "locked" : `${twist ? Math.hypot(twist[0], twist[1]).toFixed(2) : "–"} m/s`;
    text($("base"), live ? base : "–");
    text($("lift"), live && Number.isFinite(state.lift) ? `${state.lift.toFixed(2)} m` : "–");
    const gaze = state?.head?.map((v) => `${Math.round((v * 180) / Math.PI)}°`).join(" / ");
    text($("gaze"), live && gaze ? gaze : "–");
    allow($("pause"), buttons.pause);
    const paused = state?.session === "paused";
    $("pause").dataset.command = paused ? "resume" : "pause";
    text($("pause"), paused ? "Go on" : "Pause");
    allow($("lock"), buttons.lock);
    const locked = state?.base?.locked;
    $("lock").dataset.command = locked ? "unlock_base" : "lock_base";
    text($("lock"), locked ? "Unlock base" : "Lock base");
  }

  #showLink({ latency }) {
    text($("trip"), latency.roundTrip);
    text($("jitter"), latency.jitter);
    text($("rate"), latency.frameRate);
    text($("command"), latency.command);
    list($("video"), latency.video, ({ name, text: value }) => {
      const row = node("div", node("dt", `${name} video`));
      row.append(node("dd", value));
      return row;
    });
  }
}
