/**
 * The XR session: entering, leaving, the frame loop, and every event after which a pose can no longer be trusted to go
 * on from the one before. Each such event raises `epoch`, on which the server lets go of the robot.
 */
import { frameOf } from "./sample.js";

/** Frame rate asked for, if the headset offers it, 1/s. */
const WANTED_RATE = 90;

const REASONS = Object.freeze({
  NotAllowedError: "The browser did not allow it. Press the button again and accept.",
  NotSupportedError: "This headset does not offer what is needed (local-floor tracking).",
  InvalidStateError: "Another session is still running on this headset.",
  SecurityError: "The page is not allowed to use the headset.",
});

/**
 * What the browser can do: {vr, ar, reason}; the reason says why neither works.
 * @param {Navigator} navigator
 * @param {boolean} secure window.isSecureContext
 */
export async function abilities(navigator, secure) {
  if (!secure) {
    return {
      vr: false,
      ar: false,
      reason: "This page was not opened over https (or localhost), so the browser hides the headset.",
    };
  }
  if (!navigator.xr)
    return { vr: false, ar: false, reason: "This browser has no WebXR. Open the page in the headset’s browser." };
  const [vr, ar] = await Promise.all(
    ["immersive-vr", "immersive-ar"].map((m) => navigator.xr.isSessionSupported(m).catch(() => false)),
  );
  return { vr, ar, reason: vr || ar ? "" : "No headset is connected to this browser." };
}

/** Events: change (reason or session), frame (detail: {frame, sample, space, session}), end, note (for the log). */
export class Headset extends EventTarget {
  session = null;
  space = null;
  epoch = 0;
  /** Why frames stopped or are not usable, "" while all is well. */
  reason = "";
  passthrough = false;

  #gl;

  /** @param {WebGL2RenderingContext} gl made compatible with XR before the first session */
  constructor(gl) {
    super();
    this.#gl = gl;
  }

  /**
   * Begin a session; call from a click.
   * @param {"immersive-vr"|"immersive-ar"} mode
   * @returns {Promise<boolean>} whether it runs; if not, `reason` says why
   */
  async enter(mode) {
    if (this.session) return true;
    try {
      const session = await navigator.xr.requestSession(mode, {
        requiredFeatures: ["local-floor"],
        optionalFeatures: ["hand-tracking"],
      });
      await this.#begin(session, mode);
      return true;
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      await this.session?.end();
      this.#say(REASONS[error.name] ?? `The session could not begin: ${error.message}`);
      return false;
    }
  }

  /** End the session, for a reason that stays on the page. */
  async leave(reason = "") {
    const session = this.session;
    if (!session) return;
    this.reason = reason;
    await session.end();
  }

  /** Pulse a controller. @returns {boolean} whether that hand has something that pulses */
  pulse(hand, intensity, duration) {
    for (const source of this.session?.inputSources ?? []) {
      if (source.handedness !== hand || !source.gamepad) continue;
      const actuator = source.gamepad.hapticActuators?.[0];
      if (actuator?.pulse) {
        actuator.pulse(Math.min(1, Math.max(0, intensity)), Math.min(500, Math.max(0, duration)));
        return true;
      }
      if (source.gamepad.vibrationActuator?.playEffect) {
        source.gamepad.vibrationActuator.playEffect("dual-rumble", {
          duration,
          strongMagnitude: intensity,
          weakMagnitude: intensity,
        });
        return true;
      }
    }
    return false;
  }

  async #begin(session, mode) {
    this.session = session;
    this.passthrough = mode === "immersive-ar";
    this.#discontinuity("");
    session.addEventListener("end", () => this.#ended());
    session.addEventListener("visibilitychange", () => {
      const seen = session.visibilityState === "visible";
      this.#discontinuity(seen ? "" : "The headset’s menu is open or it is off the head: the robot holds.");
    });
    session.addEventListener("inputsourceschange", () => this.#discontinuity(this.reason));
    await this.#gl.makeXRCompatible();
    session.updateRenderState({ baseLayer: new XRWebGLLayer(session, this.#gl), depthNear: 0.05, depthFar: 60 });
    const rates = session.supportedFrameRates;
    if (rates?.length && session.updateTargetFrameRate) {
      const rate = Math.max(...[...rates].filter((r) => r <= WANTED_RATE), rates[0]);
      session.updateTargetFrameRate(rate).catch((error) => {
        this.dispatchEvent(new CustomEvent("note", { detail: `frame rate stays as it is: ${error.message}` }));
      });
    }
    this.space = await session.requestReferenceSpace("local-floor");
    this.space.addEventListener("reset", () => this.#discontinuity(this.reason));
    const loop = (time, frame) => {
      if (this.session !== session) return;
      session.requestAnimationFrame(loop);
      const sample = frameOf(frame, this.space, this);
      this.dispatchEvent(new CustomEvent("frame", { detail: { frame, sample, space: this.space, session } }));
    };
    session.requestAnimationFrame(loop);
  }

  #discontinuity(reason) {
    this.epoch += 1;
    this.#say(reason);
  }

  #say(reason) {
    this.reason = reason;
    this.dispatchEvent(new CustomEvent("change"));
  }

  #ended() {
    this.session = null;
    this.space = null;
    this.epoch += 1;
    this.dispatchEvent(new CustomEvent("end"));
    this.#say(this.reason);
  }
}
