/** Paints what is told in the headset on small canvases: status bar, warnings, prompt or countdown, captions. */

const COLOURS = Object.freeze({ ok: "#46c08a", info: "#6cb2ff", warn: "#f0b44c", danger: "#ff6b6b", muted: "#93a1b0" });
const CHIPS = Object.freeze({
  danger: "rgba(120, 24, 28, 0.94)",
  warn: "rgba(58, 43, 12, 0.94)",
  info: "rgba(20, 36, 54, 0.94)",
});
const TEXT = "#eef3f8";
const SOFT = "#a9b6c4";
const GROUND = "rgba(23, 31, 40, 0.93)";
/** Width of the bar that shows how far a gripper is closed, px. */
const GRIPPER = 110;
const FACE = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";

/** A canvas that is painted again only when what it shows has changed. */
export class Sheet {
  #shown = null;
  #paint;

  /**
   * @param {number} width px
   * @param {number} height px
   * @param {(pen: CanvasRenderingContext2D, content: object, width: number, height: number) => void} paint
   */
  constructor(width, height, paint) {
    this.canvas = new OffscreenCanvas(width, height);
    this.pen = this.canvas.getContext("2d");
    this.#paint = paint;
  }

  /** Show something. @returns {boolean} whether the canvas changed */
  show(content) {
    const key = JSON.stringify(content);
    if (key === this.#shown) return false;
    this.#shown = key;
    const { width, height } = this.canvas;
    this.pen.clearRect(0, 0, width, height);
    this.#paint(this.pen, content, width, height);
    return true;
  }
}

function font(pen, size, weight = 400) {
  pen.font = `${weight} ${size}px ${FACE}`;
  pen.textBaseline = "alphabetic";
}

function ground(pen, width, height, colour = GROUND) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(0, 0, width, height, 24);
  pen.fill();
}

/** Write on one line, shortened with an ellipsis where it does not fit. @returns {number} its width */
export function line(pen, text, x, y, most) {
  let shown = text;
  if (pen.measureText(shown).width > most) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (pen.measureText(`${text.slice(0, middle).trimEnd()}…`).width <= most) low = middle;
      else high = middle - 1;
    }
    shown = `${text.slice(0, low).trimEnd()}…`;
  }
  pen.fillText(shown, x, y);
  return pen.measureText(shown).width;
}

/** Words of a text on lines no wider than `most`, at most `rows` of them; the last one takes all the rest. */
export function wrap(pen, text, most, rows) {
  const lines = [""];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (pen.measureText(longer).width <= most || lines.at(-1) === "" || lines.length === rows)
      lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function dot(pen, x, y, r, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  pen.fill();
}

/** The bar below the main view: what happens, what is recorded, how fast the link is, and both hands. */
export function paintStatus(pen, { headline, episode, latency, hands }, width, height) {
  ground(pen, width, height);
  const margin = 36;
  dot(pen, margin + 12, 56, 12, COLOURS[headline.tone]);
  font(pen, 44, 650);
  pen.fillStyle = headline.tone === "danger" ? COLOURS.danger : TEXT;
  line(pen, headline.text, margin + 42, 71, 440);
  font(pen, 27);
  pen.fillStyle = SOFT;
  line(pen, headline.detail, margin, 116, 480);

  const middle = 550;
  font(pen, 34, 600);
  pen.fillStyle = TEXT;
  const wide = line(pen, episode.title, middle, 68, 260);
  const recording = episode.state === "RECORDING";
  if (recording) dot(pen, middle + wide + 30, 57, 10, COLOURS.danger);
  font(pen, 29);
  pen.fillStyle = COLOURS[episode.tone];
  line(pen, `${episode.text}${episode.time ? ` ${episode.time}` : ""}`, middle + wide + (recording ? 50 : 20), 68, 280);
  font(pen, 27);
  pen.fillStyle = SOFT;
  line(pen, episode.task || episode.saved || "", middle, 116, 440);

  pen.textAlign = "right";
  font(pen, 34, 600);
  pen.fillStyle = COLOURS[latency.tone];
  pen.fillText(latency.roundTrip, width - margin, 68);
  font(pen, 27);
  pen.fillStyle = SOFT;
  pen.fillText(`video ${latency.videoHead} · ${latency.frameRate}`, width - margin, 116);
  pen.textAlign = "left";

  pen.fillStyle = "rgba(255, 255, 255, 0.10)";
  pen.fillRect(margin, 140, width - 2 * margin, 2);
  const half = (width - 2 * margin) / 2;
  ["left", "right"].forEach((side, i) => paintHand(pen, side, hands[side], margin + i * half, 190, half - 40));
}

function paintHand(pen, side, hand, x, y, most) {
  const label = side === "left" ? "Left" : "Right";
  dot(pen, x + 9, y - 10, 9, COLOURS[hand?.tone ?? "muted"]);
  font(pen, 29, 600);
  pen.fillStyle = TEXT;
  const wide = line(pen, label, x + 30, y, 120);
  font(pen, 27);
  pen.fillStyle = hand?.tone === "warn" ? COLOURS.warn : SOFT;
  line(pen, hand?.text ?? "–", x + 30 + wide + 18, y, most - wide - 48 - 24 - GRIPPER);
  if (hand?.gripper === null || hand?.gripper === undefined) return;
  const bar = { x: x + most - GRIPPER, width: GRIPPER, height: 12 };
  pen.fillStyle = "rgba(255, 255, 255, 0.14)";
  pen.beginPath();
  pen.roundRect(bar.x, y - 16, bar.width, bar.height, 6);
  pen.fill();
  pen.fillStyle = COLOURS.info;
  pen.beginPath();
  pen.roundRect(bar.x, y - 16, Math.max(bar.height, bar.width * Math.min(1, Math.max(0, hand.gripper))), bar.height, 6);
  pen.fill();
}

/** Up to three warnings, the worst first. */
export function paintWarnings(pen, { warnings }, width, height) {
  const order = ["danger", "warn", "info", "ok", "muted"];
  const shown = [...warnings].sort((a, b) => order.indexOf(a.tone) - order.indexOf(b.tone)).slice(0, 3);
  const row = height / 3;
  font(pen, 29, 550);
  shown.forEach(({ tone, text }, i) => {
    const y = height - (shown.length - i) * row;
    const wide = Math.min(width, pen.measureText(text).width + 96);
    const x = (width - wide) / 2;
    pen.fillStyle = CHIPS[tone] ?? CHIPS.info;
    pen.beginPath();
    pen.roundRect(x, y + 4, wide, row - 8, (row - 8) / 2);
    pen.fill();
    dot(pen, x + 34, y + row / 2, 8, COLOURS[tone]);
    pen.fillStyle = TEXT;
    line(pen, text, x + 58, y + row / 2 + 10, width - 96);
  });
}

/** What lies over the main view: a question to answer, the countdown, or that everything stands still. */
export function paintOverlay(pen, { kind, title, text, hint }, width, height) {
  ground(pen, width, height, kind === "stop" ? "rgba(110, 18, 24, 0.94)" : "rgba(14, 19, 25, 0.93)");
  pen.textAlign = "center";
  pen.fillStyle = TEXT;
  if (kind === "countdown") {
    font(pen, 190, 700);
    pen.fillText(title, width / 2, 235);
    font(pen, 38);
    pen.fillStyle = SOFT;
    line(pen, text, width / 2, 320, width - 80);
  } else {
    font(pen, 54, 650);
    line(pen, title, width / 2, 105, width - 80);
    font(pen, 36);
    pen.fillStyle = kind === "stop" ? "#ffd9d9" : SOFT;
    wrap(pen, text, width - 100, 3).forEach((row, i) => line(pen, row, width / 2, 175 + 48 * i, width - 80));
    font(pen, 36, 600);
    pen.fillStyle = TEXT;
    line(pen, hint, width / 2, height - 45, width - 80);
  }
  pen.textAlign = "left";
}

/** The scene card: the drawing above, what to place and to do below. */
export function paintCard(pen, { steps, drawn }, drawing, width, height) {
  ground(pen, width, height);
  const margin = 28;
  let y = margin;
  if (drawn) {
    const high = ((width - 2 * margin) * drawing.naturalHeight) / drawing.naturalWidth;
    pen.drawImage(drawing, margin, y, width - 2 * margin, high);
    y += high + 14;
  }
  font(pen, 27);
  for (const [i, step] of steps.entries()) {
    const last = i === steps.length - 1; // what to do, after what to place
    font(pen, last ? 31 : 27, last ? 650 : 400);
    pen.fillStyle = last ? TEXT : SOFT;
    for (const row of wrap(pen, step, width - 2 * margin, 2)) {
      y += last ? 40 : 34;
      if (y < height - 14) line(pen, row, margin, y, width - 2 * margin);
    }
  }
}

/** Name of a camera and, if it stands still, since when. */
export function paintCaption(pen, { name, stale }, width, height) {
  font(pen, 30, 600);
  const text = stale ? `${name} · ${stale}` : name;
  const wide = Math.min(width, pen.measureText(text).width + 48);
  pen.fillStyle = stale ? "rgba(88, 60, 8, 0.92)" : "rgba(14, 19, 25, 0.72)";
  pen.beginPath();
  pen.roundRect(0, 0, wide, height, 18);
  pen.fill();
  pen.fillStyle = stale ? "#ffd98f" : TEXT;
  line(pen, text, 24, height / 2 + 11, width - 48);
}
