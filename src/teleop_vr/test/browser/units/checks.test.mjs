import assert from "node:assert/strict";
import { test } from "node:test";
import * as checks from "../../../web/js/checks.js";
import { pairingToken } from "../../../web/js/pairing.js";

test("a good connection is good, a bad one comes with what to do", () => {
  const good = checks.tripChecks(
    Array.from({ length: 100 }, (_, i) => 4 + (i % 5)),
    100,
  );
  assert.ok(good.every((c) => c.tone === "ok" && c.fix === ""));
  const bad = checks.tripChecks([50, 60, 300], 5);
  assert.ok(bad.every((c) => c.tone === "danger" && c.fix !== ""));
  assert.equal(checks.tripChecks([], 5)[0].tone, "danger");
});

test("certificates: names, days left, expired", () => {
  const now = Date.parse("2026-11-21T00:00:00Z");
  const tls = { names: ["192.168.1.5"], expires: "2027-11-21T00:00:00Z", host_covered: true, host: "192.168.1.5" };
  assert.equal(checks.certificateCheck(tls, now).tone, "ok");
  assert.equal(checks.certificateCheck({ ...tls, host_covered: false }, now).tone, "warn");
  assert.equal(checks.certificateCheck({ ...tls, expires: "2026-11-25T00:00:00Z" }, now).tone, "warn");
  assert.match(checks.certificateCheck({ ...tls, expires: "2026-11-01T00:00:00Z" }, now).value, /expired 20 days ago/);
  assert.equal(checks.certificateCheck(null, now).tone, "muted");
});

test("the verdict is that of the worst", () => {
  const fine = { name: "A", tone: "ok", value: "", fix: "" };
  assert.equal(checks.verdict([fine, { ...fine, tone: "muted" }]).tone, "ok");
  assert.equal(checks.verdict([fine, { ...fine, tone: "warn" }]).tone, "warn");
  assert.match(
    checks.verdict([
      { ...fine, tone: "warn" },
      { ...fine, name: "Socket", tone: "danger" },
    ]).detail,
    /socket/,
  );
});

test("the token leaves the address and stays with the tab", () => {
  const kept = new Map();
  const storage = { setItem: (k, v) => kept.set(k, v), getItem: (k) => kept.get(k) ?? null };
  const replaced = [];
  const history = { replaceState: (...how) => replaced.push(how[2]) };
  assert.equal(pairingToken({ hash: "", pathname: "/", search: "" }, storage, history), "");
  assert.equal(pairingToken({ hash: "#token=a%2Bb", pathname: "/", search: "?x=1" }, storage, history), "a+b");
  assert.deepEqual(replaced, ["/?x=1"]);
  assert.equal(pairingToken({ hash: "", pathname: "/", search: "" }, storage, history), "a+b");
});
