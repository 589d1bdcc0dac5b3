/**
 * The headset's own camera, for showing a task without a robot: its pictures go to the server, each with the time of
 * the page's clock at which it came. A socket of its own: poses never wait behind pictures.
 */

const MAGIC = 0x31434d42;
const HEADER = 24;
const WANTED = Object.freeze({ width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } });
const QUALITY = 0.85;
/** Bytes waiting in the browser beyond which a picture is left out. */
const MOST_WAITING = 1 << 18;

const REASONS = Object.freeze({
  NotAllowedError: "The camera was not allowed. Allow “Headset cameras” for this page, then enter again.",
  NotFoundError: "This browser offers no camera.",
  NotReadableError: "The camera is in use elsewhere.",
});

/** The bytes of a message with a picture. @param {ArrayBuffer} jpeg */
export function encodeCameraPicture(jpeg, { sequence, time, width, height }) {
  const message = new Uint8Array(HEADER + jpeg.byteLength);
  const view = new DataView(message.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, sequence, true);
  view.setFloat64(8, time, true);
  view.setUint16(16, width, true);
  view.setUint16(18, height, true);
  message.set(new Uint8Array(jpeg), HEADER);
  return message;
}

/** Films from `start` to `stop`. Events: change (`reason` says why it does not film, "" while it does). */
export class HeadsetCamera extends EventTarget {
  reason = "";
  /** Pictures sent. */
  sent = 0;

  #url;
  #stream = null;
  #socket = null;
  #canvas = new OffscreenCanvas(16, 16);

  /** @param {string} url of the socket, with the token */
  constructor(url) {
    super();
    this.#url = url;
  }

  /** Ask for the camera and film. */
  async start() {
    if (this.#stream) return;
    if (!navigator.mediaDevices || !("MediaStreamTrackProcessor" in globalThis)) {
      this.#say(REASONS.NotFoundError);
      return;
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: "environment", ...WANTED },
      });
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#say(REASONS[error.name] ?? `No camera: ${error.message}`);
      return;
    }
    const stream = this.#stream;
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => this.stop("The camera was taken away."));
    this.#socket = new WebSocket(this.#url);
    this.#socket.addEventListener("close", ({ reason }) => {
      if (this.#stream === stream) this.stop(reason || "The connection for pictures is lost. Enter again.");
    });
    this.#say("");
    await this.#film(track, stream);
  }

  /** Let go of the camera. */
  stop(reason = "") {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#socket?.close(1000);
    this.#socket = null;
    this.#say(reason);
  }

  /** Frames of the track itself: a page behind an immersive session draws nothing, but its tracks go on. */
  async #film(track, stream) {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    while (this.#stream === stream) {
      const { done, value: frame } = await reader.read();
      if (done) return;
      const time = performance.now() / 1000;
      const [width, height] = [frame.displayWidth, frame.displayHeight];
      if (this.#canvas.width !== width || this.#canvas.height !== height) {
        this.#canvas = new OffscreenCanvas(width, height);
      }
      this.#canvas.getContext("2d").drawImage(frame, 0, 0);
      frame.close();
      if (this.#socket?.readyState !== WebSocket.OPEN || this.#socket.bufferedAmount > MOST_WAITING) continue;
      const blob = await this.#canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
      const jpeg = await blob.arrayBuffer();
      if (this.#socket?.readyState !== WebSocket.OPEN) continue;
      this.sent += 1;
      this.#socket.send(encodeCameraPicture(jpeg, { sequence: this.sent, time, width, height }));
    }
  }

  #say(reason) {
    this.reason = reason;
    this.dispatchEvent(new Event("change"));
  }
}
