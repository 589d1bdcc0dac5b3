/**
 * The session socket: says hello, keeps one connection, comes back by itself with growing pauses, and says why it is
 * not there. Robot state and pictures come out as events; headset frames and commands go in.
 */
import { PROTOCOL, encodeFrame } from "./protocol.js";
import { Ring } from "./ring.js";

/** Pauses before the next try, ms: they double, and up to a quarter more by chance: pages do not come all at once. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;
/** After these codes another try would end the same way. */
const FINAL_CODES = new Set([4001, 4002]);
/** Bytes waiting in the browser beyond which a frame is left out: an old pose is worth less than none. */
const MOST_WAITING = 1024;
/** Frames whose times of sending are remembered, to tell the round trip. */
const REMEMBERED = 512;
/** A state this old (ms) is no longer the robot's. */
export const STALE_MS = 500;

/** Pause before try number `attempt` (from 0), ms. @param {number} chance 0 to 1 */
export function pauseBefore(attempt, chance) {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt) * (1 + 0.25 * chance);
}

/**
 * Events (of CustomEvent, content in `detail`): change, state, picture, haptic, event, panels, result.
 */
export class Link extends EventTarget {
  /** @type {"connecting"|"open"|"waiting"|"refused"|"closed"} */
  status = "closed";
  /** Why it is not open, in words for the operator, and what to do. */
  reason = "";
  fix = "";
  role = "observer";
  operator = "";
  welcome = null;
  state = null;
  /** When the newest state came, ms of the page's clock. */
  stateAt = -Infinity;
  /** Round trips headset - server - page, ms. */
  roundTrips = new Ring(120);

  #url;
  #token;
  #socket = null;
  #attempt = 0;
  #timer = 0;
  #retryAt = 0;
  #sequence = 0;
  #sent = new Float64Array(REMEMBERED);
  #commands = new Map();
  #commandId = 0;

  /**
   * @param {string} url of the socket, without the token
   * @param {string} token
   * @param {string} client who this is, for the server's log
   */
  constructor(url, token, client) {
    super();
    this.#url = url;
    this.#token = token;
    this.client = client;
    this.want = "operator";
  }

  /** Connect, now. */
  open() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    this.#change("connecting");
    const socket = new WebSocket(`${this.#url}?token=${encodeURIComponent(this.#token)}`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#sequence = 0;
      this.#write({ type: "hello", protocol: PROTOCOL, client: this.client, want: this.want });
    });
    socket.addEventListener("message", ({ data }) => {
      if (typeof data !== "string") this.#emit("picture", { message: data, at: performance.now() });
      else this.#take(data);
    });
    socket.addEventListener("close", ({ code, reason }) => this.#lost(socket, code, reason));
  }

  /** Give up for good: the page goes away, or another tab has the robot. */
  close(reason = "") {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#gone();
    this.#change("closed", reason);
  }

  /** Seconds until the next try, 0 if none waits. */
  get retryIn() {
    return this.status === "waiting" ? Math.max(0, (this.#retryAt - performance.now()) / 1000) : 0;
  }

  /** Whether the state shown is the robot's of now. */
  get fresh() {
    return this.status === "open" && performance.now() - this.stateAt < STALE_MS;
  }

  /** Whether frames pile up in the browser: the network does not keep up. */
  get congested() {
    return this.status === "open" && this.#socket.bufferedAmount > MOST_WAITING;
  }

  /**
   * Send a headset frame.
   * @param {import("./protocol.js").Frame} frame
   * @param {number} now ms on the page's clock
   * @returns {boolean} whether it went out
   */
  sendFrame(frame, now) {
    if (this.status !== "open" || this.role !== "operator") return false;
    if (this.congested) return false;
    this.#sequence += 1;
    this.#sent[this.#sequence % REMEMBERED] = now;
    const echo = this.state ? this.state.t : 0;
    const echoHeld = this.state ? (now - this.stateAt) / 1000 : 0;
    this.#socket.send(encodeFrame(frame, { sequence: this.#sequence, time: now / 1000, echo, echoHeld }));
    return true;
  }

  /** Ask for the operator's place, or give it up. */
  claim() {
    this.want = "operator";
    this.#write({ type: "claim" });
  }
  release() {
    this.want = "observer";
    this.#write({ type: "release" });
  }

  /**
   * Send a command.
   * @returns {Promise<{ok: boolean, message: string}>} the server's answer; no answer counts as refused
   */
  command(command, more = {}) {
    const id = ++this.#commandId;
    if (!this.#write({ type: "command", id, command, ...more })) {
      return Promise.resolve({ ok: false, message: "Not connected to the robot: nothing was sent." });
    }
    return new Promise((resolve) => {
      const timer = setTimeout(
        () => this.#answer({ id, ok: false, message: `No answer to “${command}” within 3 s.` }),
        3000,
      );
      this.#commands.set(id, { resolve, timer });
    });
  }

  /** Tell that a picture was drawn, or dropped for a newer one. */
  shown(camera, sequence, heldMs) {
    this.#write({ type: "shown", camera, sequence, held_ms: Math.round(heldMs * 100) / 100 });
  }

  /** Put a line into the server's log. */
  log(level, text) {
    this.#write({ type: "log", level, text: String(text).slice(0, 500) });
  }

  #write(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #take(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.log("error", `message that is no JSON: ${text.slice(0, 80)}`);
      return;
    }
    switch (message.type) {
      case "welcome":
        this.#attempt = 0;
        this.welcome = message;
        this.role = message.role;
        this.#change("open");
        break;
      case "role":
        this.role = message.role;
        this.operator = message.operator;
        this.#change(this.status, message.reason ?? "");
        break;
      case "ping":
        this.#write({ type: "pong", id: message.id });
        break;
      case "state":
        this.#newState(message);
        break;
      case "result":
        this.#answer(message);
        break;
      case "refused":
        this.reason = message.reason;
        this.fix = message.fix ?? "";
        break;
      default: // haptic, event, panels; what a newer server adds has no listener
        this.#emit(message.type, message);
    }
  }

  #newState(state) {
    const now = performance.now();
    if (state.echo && state.echo.sequence && this.#sequence - state.echo.sequence < REMEMBERED) {
      const sent = this.#sent[state.echo.sequence % REMEMBERED];
      if (sent) this.roundTrips.push(now - sent - state.echo.held_ms);
    }
    this.state = state;
    this.stateAt = now;
    const changed = (state.role && state.role !== this.role) || state.operator !== this.operator;
    this.role = state.role ?? this.role;
    this.operator = state.operator ?? "";
    this.#emit("state", state);
    if (changed) this.#emit("change");
  }

  #answer({ id, ok, message }) {
    const waiting = this.#commands.get(id);
    if (!waiting) return;
    this.#commands.delete(id);
    clearTimeout(waiting.timer);
    waiting.resolve({ ok, message });
    this.#emit("result", { ok, message });
  }

  #lost(socket, code, reason) {
    if (socket !== this.#socket) return; // closed on purpose
    this.#socket = null;
    const said = this.reason || reason; // a refusal came before
    const fix = this.fix;
    this.#gone();
    if (FINAL_CODES.has(code)) {
      this.#change("refused", said || "The server refused this page.", fix);
      return;
    }
    const pause = pauseBefore(this.#attempt++, Math.random());
    this.#retryAt = performance.now() + pause;
    this.#timer = setTimeout(() => this.open(), pause);
    this.#change("waiting", said || "The connection to the robot is lost.", fix);
  }

  #gone() {
    this.role = "observer";
    this.operator = "";
    this.#sent.fill(0);
    this.roundTrips.clear();
    for (const id of [...this.#commands.keys()]) {
      this.#answer({ id, ok: false, message: "The connection was lost before an answer came." });
    }
  }

  #change(status, reason = "", fix = "") {
    this.status = status;
    this.reason = reason;
    this.fix = fix;
    this.#emit("change");
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
