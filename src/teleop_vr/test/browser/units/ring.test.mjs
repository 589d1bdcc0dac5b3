import assert from "node:assert/strict";
import { test } from "node:test";
import { Rate, Ring } from "../../../web/js/ring.js";

test("keeps the latest samples, oldest first", () => {
  for (const capacity of [1, 2, 7]) {
    const ring = new Ring(capacity);
    const all = Array.from({ length: 23 }, (_, i) => i * i);
    all.forEach((v, i) => {
      ring.push(v);
      assert.deepEqual(ring.values(), all.slice(Math.max(0, i + 1 - capacity), i + 1));
      assert.equal(ring.last, v);
    });
    ring.clear();
    assert.deepEqual(ring.values(), []);
  }
});

test("says NaN of nothing and leaves out what is no number", () => {
  const ring = new Ring(4);
  ring.push(NaN);
  ring.push(Infinity);
  assert.equal(ring.length, 0);
  assert.ok(Number.isNaN(ring.mean) && Number.isNaN(ring.percentile(0.5)) && Number.isNaN(ring.last));
});

test("percentiles by nearest rank", () => {
  const ring = new Ring(10);
  [5, 1, 4, 2, 3].forEach((v) => ring.push(v));
  assert.deepEqual(
    [0, 0.2, 0.5, 0.8, 1].map((p) => ring.percentile(p)),
    [1, 1, 3, 4, 5],
  );
  assert.equal(ring.mean, 3);
});

test("needs room for at least one", () => {
  for (const bad of [0, -1, 1.5, NaN]) assert.throws(() => new Ring(bad), RangeError);
});

test("rate of regular events, and none once they stop", () => {
  const rate = new Rate(90);
  for (let i = 0; i < 200; i++) rate.tick(i * 12.5);
  assert.ok(Math.abs(rate.at(199 * 12.5) - 80) < 1e-9);
  assert.equal(rate.at(199 * 12.5 + 2500), 0);
  assert.equal(new Rate().at(0), 0);
});
