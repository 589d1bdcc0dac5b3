/** Verdicts of the doctor page: numbers in, what they mean and how to put it right out. */
import { sentence } from "./model.js";

/**
 * @typedef {object} Check
 * @property {string} name
 * @property {"ok"|"warn"|"danger"|"muted"} tone
 * @property {string} value
 * @property {string} fix "" where nothing is to be done
 */

const check = (name, tone, value, fix = "") => ({ name, tone, value, fix: tone === "ok" ? "" : fix });

const ROUTER =
  "Use 5 or 6 GHz Wi-Fi with the robot’s computer on a cable, stay in the room of the access point, " +
  "and switch its power saving (DTIM above 1, U-APSD) off; or use USB.";

/** Whether the browser lets the page at the headset at all. */
export function secureCheck(secure, protocol) {
  return check(
    "Secure page",
    secure ? "ok" : "danger",
    secure ? (protocol === "https:" ? "https" : "localhost") : "not secure",
    "Open the page by the https address that ./bytemini teleop prints, or over USB as localhost.",
  );
}

/** @param {{vr: boolean, ar: boolean, reason: string}} abilities of the headset module */
export function headsetCheck({ vr, ar, reason }) {
  const offers = [vr && "VR", ar && "passthrough"].filter(Boolean).join(" and ");
  return check(
    "Headset",
    offers ? "ok" : "muted",
    offers || reason,
    "At the desk this is as it should be; in the headset, update its browser.",
  );
}

/** @param {number} hz rate at which the page can draw */
export function displayCheck(hz) {
  const tone = hz >= 55 ? "ok" : "warn";
  return check(
    "Frame rate of this page",
    tone,
    `${Math.round(hz)} Hz`,
    "Close other tabs and apps; let the headset cool down and charge.",
  );
}

/** @param {number|null} hz of the last headset session of this tab */
export function sessionCheck(hz) {
  if (hz === null)
    return check(
      "Frame rate in the headset",
      "muted",
      "no session yet in this tab",
      "Enter VR once, then look here again.",
    );
  const tone = hz >= 60 ? "ok" : hz >= 40 ? "warn" : "danger";
  return check(
    "Frame rate in the headset",
    tone,
    `${Math.round(hz)} Hz`,
    "Close other apps in the headset, and make the panels smaller.",
  );
}

/** @param {boolean} decodes whether a JPEG came out as a picture */
export function decodeCheck(decodes) {
  return check(
    "Pictures",
    decodes ? "ok" : "danger",
    decodes ? "decoded in the background" : "cannot be decoded",
    "Update this browser.",
  );
}

/**
 * @param {{names: string[], expires: string, host_covered: boolean, host: string}|null} tls
 * @param {number} now ms since 1970
 */
export function certificateCheck(tls, now) {
  if (!tls) return check("Certificate", "muted", "unknown", "The server did not tell.");
  const days = Math.floor((Date.parse(tls.expires) - now) / 86400000);
  const renew =
    "Delete the key and certificate on the robot’s computer and start ./bytemini teleop again: it makes new ones.";
  if (days < 0) return check("Certificate", "danger", `expired ${-days} days ago`, renew);
  if (!tls.host_covered) {
    return check(
      "Certificate",
      "warn",
      `is for ${tls.names.join(", ")}, not for ${tls.host}`,
      `Open the page by one of its names. ${renew}`,
    );
  }
  return check("Certificate", days < 14 ? "warn" : "ok", `covers ${tls.host}, ${days} days left`, renew);
}

/** @param {number|null} ms until the socket was open, null if it did not open @param {string} reason */
export function socketCheck(ms, reason) {
  if (ms === null) {
    return check(
      "Socket",
      "danger",
      reason,
      "Open this page’s own address again and accept its certificate; no proxy may stand between. Then pair anew.",
    );
  }
  return check("Socket", ms < 500 ? "ok" : "warn", `open after ${Math.round(ms)} ms`, ROUTER);
}

/**
 * Round trips of messages as long as a headset's frame.
 * @param {number[]} trips ms of those that came back
 * @param {number} sent
 * @returns {Check[]}
 */
export function tripChecks(trips, sent) {
  if (!trips.length) return [check("Round trip", "danger", "nothing came back", "Look at the socket first.")];
  const sorted = [...trips].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
  const [median, jitter] = [at(0.5), at(0.95) - at(0.5)];
  const missing = sent - trips.length;
  return [
    check(
      "Round trip",
      median < 20 ? "ok" : median < 40 ? "warn" : "danger",
      `${median.toFixed(1)} ms, good below 20`,
      ROUTER,
    ),
    check(
      "Jitter",
      jitter < 8 ? "ok" : jitter < 25 ? "warn" : "danger",
      `${jitter.toFixed(1)} ms, good below 8`,
      ROUTER,
    ),
    check(
      "Longest wait",
      at(1) < 100 ? "ok" : at(1) < 200 ? "warn" : "danger",
      `${at(1).toFixed(0)} ms; the robot slows down at 200`,
      ROUTER,
    ),
    check(
      "Lost",
      missing ? "danger" : "ok",
      missing ? `${missing} of ${sent} did not come back` : `none of ${sent}`,
      ROUTER,
    ),
  ];
}

/** What the server found itself. @param {{name: string, ok: boolean, value: unknown, fix: string}[]} found */
export function serverChecks(found) {
  return found.map(({ name, ok, value, fix }) =>
    check(sentence(name), ok ? "ok" : "warn", String(value ?? "unknown"), fix),
  );
}

/** The one sentence on top. @param {Check[]} checks */
export function verdict(checks) {
  const bad = checks.filter((c) => c.tone === "danger");
  const poor = checks.filter((c) => c.tone === "warn");
  if (bad.length)
    return {
      tone: "danger",
      text: "Not fit to drive the robot",
      detail: `Put right first: ${bad.map((c) => c.name.toLowerCase()).join(", ")}.`,
    };
  if (poor.length)
    return {
      tone: "warn",
      text: "Usable, not good",
      detail: `Look at: ${poor.map((c) => c.name.toLowerCase()).join(", ")}.`,
    };
  return { tone: "ok", text: "All well", detail: "This device and its connection are fit to drive the robot." };
}
