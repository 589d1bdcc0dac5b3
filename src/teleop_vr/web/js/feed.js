/**
 * Pictures of one camera: the newest wins. At most one is being decoded and one waits; a picture that a newer one
 * overtakes is answered as such and thrown away, so that nothing queues up.
 */
/** A picture this old (ms) is no longer a view of now. */
export const CAMERA_STALE_MS = 700;

export class Feed {
  /** Newest decoded picture, or null. @type {ImageBitmap|null} */
  picture = null;
  /** When the newest picture came, ms of the page's clock. */
  arrivedAt = -Infinity;

  #camera;
  #shown;
  #decode;
  #decoding = false;
  #waiting = null;
  #undrawn = null;

  /**
   * @param {{id: number, name: string, eye?: string}} camera as the server's welcome lists it
   * @param {(camera: number, sequence: number, heldMs: number) => void} shown answers the server
   * @param {(jpeg: Uint8Array) => Promise<ImageBitmap>} decode
   */
  constructor(camera, shown, decode = (jpeg) => createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }))) {
    this.#camera = camera;
    this.#shown = shown;
    this.#decode = decode;
  }

  get name() {
    return this.#camera.name;
  }
  /** Which eye it is for: both, left or right. */
  get eye() {
    return this.#camera.eye ?? "both";
  }

  /** Whether its newest picture is too old at a time, ms. */
  stale(now) {
    return now - this.arrivedAt > CAMERA_STALE_MS;
  }

  /** Take a picture that came at a time, ms. */
  offer(picture, at) {
    this.arrivedAt = at;
    const entry = { picture, at };
    if (this.#decoding) {
      this.#overtaken(this.#waiting, at);
      this.#waiting = entry;
      return;
    }
    this.#begin(entry);
  }

  /**
   * The newest picture if it has not been drawn yet, else null; counts as drawn from then on.
   * @param {number} now ms
   */
  take(now) {
    if (!this.#undrawn) return null;
    this.#shown(this.#camera.id, this.#undrawn.sequence, now - this.#undrawn.at);
    this.#undrawn = null;
    return this.picture;
  }

  /** Forget everything, for instance because the connection is gone. */
  clear() {
    this.#waiting = null;
    this.#undrawn = null;
    this.arrivedAt = -Infinity;
  }

  async #begin(entry) {
    this.#decoding = true;
    try {
      const bitmap = await this.#decode(entry.picture.jpeg);
      this.#overtaken(this.#undrawn, performance.now());
      this.picture?.close?.();
      this.picture = bitmap;
      this.#undrawn = { sequence: entry.picture.sequence, at: entry.at };
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      // Broken on the way; the next one may be whole.
      this.#shown(this.#camera.id, entry.picture.sequence, performance.now() - entry.at);
    } finally {
      this.#decoding = false;
    }
    const next = this.#waiting;
    this.#waiting = null;
    if (next) this.#begin(next);
  }

  #overtaken(entry, now) {
    if (!entry) return;
    this.#shown(this.#camera.id, entry.sequence ?? entry.picture.sequence, now - entry.at);
  }
}
