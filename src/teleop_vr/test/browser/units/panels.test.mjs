import assert from "node:assert/strict";
import { test } from "node:test";
import { axisAngle, fromHeading, length, multiply, rotate, subtract, unit } from "../../../web/js/maths.js";
import { DEFAULT_PANELS, Panels, hang, meet } from "../../../web/js/panels.js";
import { rayOf } from "../../../web/js/scene.js";

const EYE = [0.3, 1.55, -0.2];
const at = (target, from = EYE) => {
  const direction = unit(subtract(target, from));
  const [x, y, z] = direction;
  const orientation = multiply(fromHeading(Math.atan2(-x, -z)), axisAngle([1, 0, 0], Math.asin(y)));
  return rayOf({ position: from, orientation });
};

test("panels hang where they should, facing the eye, wherever it looks", () => {
  for (const heading of [0, 1, -2.5, 3.1]) {
    for (const spec of DEFAULT_PANELS) {
      const { position, orientation } = hang(spec, EYE, heading);
      const away = subtract(position, EYE);
      assert.ok(Math.abs(length(away) - spec.distance) < 1e-9);
      const normal = rotate(orientation, [0, 0, 1]);
      assert.ok(Math.abs(normal.reduce((sum, v, i) => sum + v * away[i], 0) + spec.distance) < 1e-6);
      assert.ok(Math.abs(Math.asin(away[1] / spec.distance) - (spec.up * Math.PI) / 180) < 1e-9);
    }
  }
});

test("no two panels cover each other at first", () => {
  const panels = new Panels();
  panels.anchor(EYE, fromHeading(0.4));
  for (const [name, aspect] of [
    ["head", 1],
    ["left_wrist", 1],
    ["right_wrist", 1],
    ["head", 4 / 3],
    ["head", 16 / 9],
  ]) {
    panels.all.get(name).aspect = aspect; // of cameras that there are
    for (const panel of panels.all.values()) clear(panels, panel);
  }
});

function clear(panels, panel) {
  const { width, aspect, pose } = panel;
  for (const [u, v] of [
    [0, 0],
    [0.49, 0.49],
    [-0.49, 0.49],
    [0.49, -0.49],
    [-0.49, -0.49],
  ]) {
    const side = rotate(pose.orientation, [u * width, (v * width) / aspect, 0]);
    const met = panels.pick(at(pose.position.map((p, i) => p + side[i])));
    assert.equal(met?.id, panel.id, `a corner of ${panel.id} is covered by ${met?.id}`);
  }
}

test("a ray meets a panel where it points, and not from behind or beside", () => {
  const panels = new Panels();
  panels.anchor(EYE, [0, 0, 0, 1]);
  const head = panels.all.get("head");
  const hit = meet(at(head.pose.position), head);
  assert.ok(Math.abs(hit.x) < 1e-6 && Math.abs(hit.y) < 1e-6 && Math.abs(hit.distance - 1.7) < 1e-6);
  const behind = head.pose.position.map((v, i) => v + (v - EYE[i]));
  assert.equal(meet(at(EYE, behind), head), null);
  assert.equal(meet(at([EYE[0], EYE[1], EYE[2] + 5]), head), null);
  head.visible = false;
  assert.notEqual(panels.pick(at(head.pose.position))?.id, "head");
});

test("a panel follows the hand that takes it, faces the eye, and stays when let go", () => {
  const panels = new Panels();
  panels.anchor(EYE, [0, 0, 0, 1]);
  const wrist = panels.all.get("left_wrist");
  const start = wrist.pose.position;
  panels.squeeze("left", at(start), 0);
  panels.squeeze("left", at(start), 1);
  assert.equal(panels.held("left"), "left_wrist");
  const target = [start[0] - 0.4, start[1] + 0.3, start[2]];
  panels.move(new Map([["left", at(target)]]), EYE);
  const moved = wrist.pose.position;
  assert.ok(length(subtract(unit(subtract(moved, EYE)), unit(subtract(target, EYE)))) < 1e-6);
  const normal = rotate(wrist.pose.orientation, [0, 0, 1]);
  assert.ok(length(subtract(normal, unit(subtract(EYE, moved)))) < 1e-6);
  panels.squeeze("left", at(target), 0);
  panels.move(new Map([["left", at(start)]]), EYE);
  assert.deepEqual(wrist.pose.position, moved);
});

test("a trigger that was down before the hand pointed takes nothing", () => {
  const panels = new Panels();
  panels.anchor(EYE, [0, 0, 0, 1]);
  const ray = at(panels.all.get("head").pose.position);
  panels.squeeze("right", ray, 1);
  assert.equal(panels.held("right"), null);
  panels.squeeze("right", ray, 0);
  panels.squeeze("right", ray, 1);
  assert.equal(panels.held("right"), "head");
  panels.move(new Map(), EYE); // the hand is busy with the robot, or not seen
  assert.equal(panels.held("right"), null);
  panels.squeeze("right", ray, 1);
  assert.equal(panels.held("right"), null);
});

test("two hands pull a panel larger, within bounds, and re-anchoring undoes it", () => {
  const panels = new Panels();
  panels.anchor(EYE, [0, 0, 0, 1]);
  const head = panels.all.get("head");
  const edge = (u) => head.pose.position.map((p, i) => p + rotate(head.pose.orientation, [u, 0, 0])[i]);
  for (const [hand, u] of [
    ["left", -0.3],
    ["right", 0.3],
  ])
    panels.grab(hand, at(edge(u)));
  const pull = (u) =>
    panels.move(
      new Map([
        ["left", at(edge(-u))],
        ["right", at(edge(u))],
      ]),
      EYE,
    );
  pull(0.3);
  const width = head.width;
  pull(0.45);
  assert.ok(head.width > width * 1.3);
  for (let i = 0; i < 5; i++) pull(30);
  assert.ok(head.width <= 1.6 * 2.5 + 1e-9);
  panels.anchor(EYE, [0, 0, 0, 1]);
  assert.equal(panels.all.get("head").width, 1.6);
  assert.equal(panels.held("left"), null);
});
