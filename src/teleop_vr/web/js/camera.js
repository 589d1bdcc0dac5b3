/**
 * The headset's own camera, for showing a task without a robot: its pictures go to the server by a socket of their own,
 * so that poses never wait behind them (see film.js).
 */

const WANTED = Object.freeze({ width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } });

const REASONS = Object.freeze({
  NotAllowedError: "The camera was not allowed. Allow “Headset cameras” for this page, then enter again.",
  NotFoundError: "This browser offers no camera.",
  NotReadableError: "The camera is in use elsewhere.",
});

/** Films from `start` to `stop`. `reason` says why it does not film, "" while all is well. */
export class HeadsetCamera {
  reason = "";

  #url;
  #stream = null;
  #worker = null;

  /** @param {string} url of the socket, with the token */
  constructor(url) {
    this.#url = url;
  }

  /** Ask for the camera and film. */
  async start() {
    if (this.#stream) return;
    if (!navigator.mediaDevices || !("MediaStreamTrackProcessor" in globalThis)) {
      this.reason = REASONS.NotFoundError;
      return;
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: "environment", ...WANTED },
      });
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.reason = REASONS[error.name] ?? `No camera: ${error.message}`;
      return;
    }
    const [track] = this.#stream.getVideoTracks();
    track.addEventListener("ended", () => this.stop("The camera was taken away."));
    // Frames of the track itself: a page behind an immersive session draws nothing, but its tracks go on.
    const frames = new MediaStreamTrackProcessor({ track }).readable;
    const worker = new Worker(new URL("./film.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => {
      if (this.#worker === worker) this.stop(data.ended || "The connection for pictures is lost. Enter again.");
    });
    worker.postMessage({ frames, url: this.#url, origin: performance.timeOrigin }, [frames]);
    this.#worker = worker;
    this.reason = "";
  }

  /** Let go of the camera. */
  stop(reason = "") {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#worker?.terminate();
    this.#worker = null;
    this.reason = reason;
  }
}
