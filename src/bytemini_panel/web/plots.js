// Small plots of the last minute. A point stands for 0.2 s and is the largest value in it; null is a gap.

export const PLOTS = [
  { title: "Jerk, % of limit", series: { jerk_percent: "commanded" }, least: 20 },
  { title: "Force on the hands, N", series: { force_left_n: "left", force_right_n: "right" }, least: 10 },
  { title: "Latency, ms", series: { inference_ms: "policy", camera_ms: "camera", tick_ms: "controller" }, least: 20 },
  { title: "Policy's delay", series: { delay_actions: "actions" }, least: 4 },
];
const INKS = ["#4f9bff", "#f2a93b", "#46c98b"];
const POINTS = 300;

export class Plot {
  constructor(spec, parent) {
    this.spec = spec;
    this.data = Object.fromEntries(Object.keys(spec.series).map((name) => [name, []]));
    const box = document.createElement("div");
    box.className = "plot";
    const title = document.createElement("div");
    title.className = "title";
    const name = document.createElement("b");
    name.textContent = spec.title;
    title.append(name);
    this.keys = {};
    Object.entries(spec.series).forEach(([series, label], i) => {
      const key = document.createElement("span");
      key.className = "key dim";
      key.style.setProperty("--ink", INKS[i]);
      title.append(key);
      this.keys[series] = { key, label };
    });
    this.canvas = document.createElement("canvas");
    box.append(title, this.canvas);
    parent.append(box);
  }

  begin(history) {
    for (const name in this.data) this.data[name] = [...(history[name] ?? [])].slice(-POINTS);
  }

  // `last`: the newest points of each series, of which `fresh` are not known yet.
  add(last, fresh) {
    for (const name in this.data) {
      const points = last[name] ?? [];
      this.data[name].push(...points.slice(Math.max(0, points.length - fresh)));
      this.data[name].splice(0, Math.max(0, this.data[name].length - POINTS));
    }
    this.draw();
  }

  draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2), canvas = this.canvas;
    const w = canvas.clientWidth, h = canvas.clientHeight;
    if (!w) return;
    canvas.width = w * ratio; canvas.height = h * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const left = 34, bottom = h - 16, top = 6;
    const values = Object.values(this.data).flat().filter((v) => v !== null);
    const largest = Math.max(this.spec.least, ...values);
    const step = 10 ** Math.floor(Math.log10(largest)) * ([1, 2, 5, 10].find((m) => largest / (10 ** Math.floor(Math.log10(largest)) * m) <= 4) ?? 10);
    const high = Math.ceil(largest / step) * step;
    const y = (v) => bottom - ((bottom - top) * v) / high;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (let v = 0; v <= high + 1e-9; v += step) {
      pen.strokeStyle = "#2d3644"; pen.fillStyle = "#9aa7b8";
      pen.beginPath(); pen.moveTo(left, y(v)); pen.lineTo(w, y(v)); pen.stroke();
      pen.fillText(String(+v.toPrecision(3)), left - 4, y(v));
    }
    pen.textBaseline = "top"; pen.textAlign = "left";
    pen.fillText("60 s ago", left, bottom + 3);
    pen.textAlign = "right";
    pen.fillText("now", w, bottom + 3);
    Object.entries(this.data).forEach(([name, points], i) => {
      pen.strokeStyle = INKS[i]; pen.fillStyle = INKS[i]; pen.lineWidth = 1.6;
      pen.beginPath();
      let drawing = false;
      points.forEach((v, k) => {
        const x = w - ((points.length - 1 - k) * (w - left)) / (POINTS - 1);
        if (v === null) { drawing = false; return; }
        if (!drawing && (points[k + 1] ?? null) === null) pen.fillRect(x - 1, y(v) - 1, 2.5, 2.5); // alone between gaps
        drawing ? pen.lineTo(x, y(v)) : pen.moveTo(x, y(v));
        drawing = true;
      });
      pen.stroke();
      const newest = points.slice(-15).filter((v) => v !== null).at(-1);
      this.keys[name].key.textContent = `${this.keys[name].label} ${newest === undefined ? "–" : +newest.toPrecision(3)}`;
    });
  }
}
