import assert from "node:assert/strict";
import { test } from "node:test";
import * as m from "../../../web/js/maths.js";

const random = (() => {
  let seed = 7;
  return () => ((seed = (seed * 48271) % 2147483647) / 2147483647) * 2 - 1; // the same numbers in every run
})();
const vector = () => [random(), random(), random()];
const rotation = () => m.normalise([random(), random(), random(), random() + 1e-3]);
const close = (a, b, eps = 1e-9) => a.forEach((v, i) => assert.ok(Math.abs(v - b[i]) < eps, `${a} is not ${b}`));

test("rotations compose, invert and keep lengths", () => {
  for (let i = 0; i < 200; i++) {
    const [a, b, v] = [rotation(), rotation(), vector()];
    close(m.rotate(m.multiply(a, b), v), m.rotate(a, m.rotate(b, v)));
    close(m.rotate(m.conjugate(a), m.rotate(a, v)), v);
    assert.ok(Math.abs(m.length(m.rotate(a, v)) - m.length(v)) < 1e-9);
  }
});

test("a quarter turn about the vertical takes ahead to the left", () => {
  close(m.rotate(m.fromHeading(Math.PI / 2), [0, 0, -1]), [-1, 0, 0]);
});

test("poses compose with their inverses to nothing, and act as their matrices do", () => {
  for (let i = 0; i < 100; i++) {
    const [a, b] = [0, 0].map(() => ({ position: vector(), orientation: rotation() }));
    const none = m.compose(a, m.invert(a));
    close(none.position, [0, 0, 0]);
    close(none.orientation.map(Math.abs), [0, 0, 0, 1], 1e-6);
    const p = vector();
    const chained = m.product(m.matrix(a), m.matrix(b));
    const expected = m.transform(m.compose(a, b), p);
    const got = [0, 1, 2].map(
      (r) => chained[r] * p[0] + chained[4 + r] * p[1] + chained[8 + r] * p[2] + chained[12 + r],
    );
    close(got, expected, 1e-5); // matrices are single precision
  }
});

test("headings survive looking up, down and tilting the head", () => {
  for (let i = 0; i < 200; i++) {
    const heading = random() * Math.PI;
    const nod = m.axisAngle([1, 0, 0], random() * 1.5);
    const tilt = m.axisAngle([0, 0, -1], random() * 0.8);
    const q = m.multiply(m.fromHeading(heading), m.multiply(nod, tilt));
    assert.ok(Math.abs(Math.sin((m.heading(q) - heading) / 2)) < 1e-6);
  }
  for (const straight of [Math.PI / 2, -Math.PI / 2]) {
    const q = m.multiply(m.fromHeading(0.7), m.axisAngle([1, 0, 0], straight));
    assert.ok(Math.abs(m.heading(q) - 0.7) < 1e-6);
  }
});

test("a facing panel looks at the eye and stands upright", () => {
  for (let i = 0; i < 100; i++) {
    const at = m.scale(vector(), 3);
    const eye = m.add(at, m.scale(m.unit(vector()), 1));
    const q = m.facing(at, eye);
    close(m.rotate(q, [0, 0, 1]), m.unit(m.subtract(eye, at)), 1e-6);
    assert.ok(Math.abs(m.rotate(q, [1, 0, 0])[1]) < 1e-6);
    assert.ok(m.rotate(q, [0, 1, 0])[1] > -1e-9);
  }
});

test("nothing has no direction", () => {
  assert.throws(() => m.unit([0, 0, 0]), RangeError);
  assert.throws(() => m.normalise([0, 0, 0, 0]), RangeError);
});
