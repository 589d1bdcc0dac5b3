import assert from "node:assert/strict";
import { test } from "node:test";
import { CAMERA_STALE_MS, Feed } from "../../../web/js/feed.js";

/** A feed whose decoder finishes when the test says. */
function feedWith() {
  const shown = [];
  const waiting = [];
  const feed = new Feed(
    { id: 2, name: "head" },
    (camera, sequence) => shown.push([camera, sequence]),
    (jpeg) => new Promise((resolve, reject) => waiting.push({ jpeg, resolve, reject })),
  );
  const finish = async (how = "resolve", value = { width: 1, height: 1 }) => {
    waiting.shift()[how](value);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { feed, shown, waiting, finish };
}
const picture = (sequence) => ({ sequence, jpeg: new Uint8Array([sequence]) });

test("newest wins: every picture is answered once, at most one is decoded and one waits", async () => {
  const { feed, shown, waiting, finish } = feedWith();
  for (let i = 1; i <= 50; i++) {
    feed.offer(picture(i), i);
    assert.equal(waiting.length, 1);
  }
  await finish(); // 1
  assert.equal(waiting[0].jpeg[0], 50);
  await finish();
  assert.notEqual(feed.take(99), null);
  assert.equal(feed.take(99), null);
  assert.deepEqual(
    shown.map(([, s]) => s).sort((a, b) => a - b),
    Array.from({ length: 50 }, (_, i) => i + 1),
  );
  assert.deepEqual(shown.at(-1), [2, 50]);
});

test("a picture decoded but never drawn is answered when the next one is", async () => {
  const { feed, shown, finish } = feedWith();
  feed.offer(picture(1), 0);
  await finish();
  feed.offer(picture(2), 10);
  assert.deepEqual(shown, []);
  await finish();
  assert.deepEqual(shown, [[2, 1]]);
});

test("a broken picture is answered, and the next one is shown", async () => {
  const { feed, shown, finish } = feedWith();
  feed.offer(picture(1), 0);
  await finish("reject", new DOMException("broken", "InvalidStateError"));
  assert.deepEqual([feed.picture, shown], [null, [[2, 1]]]);
  feed.offer(picture(2), 0);
  await finish();
  assert.notEqual(feed.take(1), null);
});

test("says when its view is no longer of now", () => {
  const { feed } = feedWith();
  assert.ok(feed.stale(0));
  feed.offer(picture(1), 1000);
  assert.ok(!feed.stale(1000 + CAMERA_STALE_MS));
  assert.ok(feed.stale(1001 + CAMERA_STALE_MS));
  feed.clear();
  assert.ok(feed.stale(1000));
});
