/** Statistics over the latest samples of a number: latency, jitter, frame rate. Memory does not grow. */
export class Ring {
  #values;
  #next = 0;
  #count = 0;

  /** @param {number} capacity samples kept, at least 1 */
  constructor(capacity) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError(`capacity is a whole number from 1, not ${capacity}`);
    this.#values = new Float64Array(capacity);
  }

  /** Samples held. */
  get length() {
    return this.#count;
  }

  /** Add a sample; the oldest makes room. Numbers that are not finite are left out. */
  push(value) {
    if (!Number.isFinite(value)) return;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % this.#values.length;
    this.#count = Math.min(this.#count + 1, this.#values.length);
  }

  /** Forget everything. */
  clear() {
    this.#next = 0;
    this.#count = 0;
  }

  /** The samples, oldest first. */
  values() {
    const first = (this.#next - this.#count + this.#values.length) % this.#values.length;
    return Array.from({ length: this.#count }, (_, i) => this.#values[(first + i) % this.#values.length]);
  }

  /** Latest sample, NaN before the first. */
  get last() {
    return this.#count ? this.#values[(this.#next - 1 + this.#values.length) % this.#values.length] : NaN;
  }

  /** Mean, NaN before the first sample. */
  get mean() {
    return this.#count ? this.values().reduce((a, b) => a + b, 0) / this.#count : NaN;
  }

  /** Value below which a share (0 to 1) of the samples lies, nearest rank; NaN before the first sample. */
  percentile(share) {
    if (!this.#count) return NaN;
    const sorted = this.values().sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  }
}

/** Events a second over the latest ones. */
export class Rate {
  #times;

  /** @param {number} capacity events kept */
  constructor(capacity = 90) {
    this.#times = new Ring(capacity);
  }

  /** Note an event at a time in ms. */
  tick(now) {
    this.#times.push(now);
  }

  /** Forget everything, for instance while nothing was meant to come. */
  clear() {
    this.#times.clear();
  }

  /**
   * Rate at a time, 1/s; 0 once nothing came for two seconds.
   * @param {number} now ms on the clock of the ticks
   */
  at(now) {
    const times = this.#times.values();
    if (times.length < 2 || now - times.at(-1) > 2000) return 0;
    return (1000 * (times.length - 1)) / (Math.max(now, times.at(-1)) - times[0]);
  }
}
