// The robot as its description's primitive shapes, drawn with WebGL2. No library.

const identity = () => new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]); // column-major, as WebGL has it

export function multiply(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++)
    for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[4 * k + r] * b[4 * c + k];
      out[4 * c + r] = sum;
    }
  return out;
}

function fromPose([x, y, z, qx, qy, qz, qw]) {
  return new Float32Array([
    1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy + qz * qw), 2 * (qx * qz - qy * qw), 0,
    2 * (qx * qy - qz * qw), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz + qx * qw), 0,
    2 * (qx * qz + qy * qw), 2 * (qy * qz - qx * qw), 1 - 2 * (qx * qx + qy * qy), 0,
    x, y, z, 1,
  ]);
}

function motion(joint, value) {
  const [x, y, z] = joint.axis;
  if (joint.motion === "slide") return fromPose([x * value, y * value, z * value, 0, 0, 0, 1]);
  const norm = Math.hypot(x, y, z) || 1;
  const s = Math.sin(value / 2) / norm;
  return fromPose([0, 0, 0, x * s, y * s, z * s, Math.cos(value / 2)]);
}

// The pose of every link in odom: link name -> column-major 4x4. `joints`: name -> rad or m. `base`: x, y, yaw.
export function forward(figure, joints, base = [0, 0, 0]) {
  const poses = { [figure.root]: fromPose([base[0], base[1], 0, 0, 0, Math.sin(base[2] / 2), Math.cos(base[2] / 2)]) };
  for (const joint of figure.joints) {
    let pose = multiply(poses[joint.parent], fromPose(joint.pose));
    if (joint.motion !== "fixed") {
      const value = joint.follows ? joint.follows[1] * (joints[joint.follows[0]] ?? 0) + joint.follows[2] : joints[joint.name] ?? 0;
      pose = multiply(pose, motion(joint, value));
    }
    poses[joint.child] = pose;
  }
  return poses;
}

// Unit meshes: positions and normals interleaved, six floats a vertex, triangles.
function mesh(kind) {
  const out = [];
  const face = (corners, normals) => {
    for (const i of [0, 1, 2, 0, 2, 3]) out.push(...corners[i], ...normals[i]);
  };
  if (kind === "box") {
    for (const axis of [0, 1, 2])
      for (const side of [-1, 1]) {
        const [u, v] = [(axis + 1) % 3, (axis + 2) % 3];
        const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => {
          const p = [0, 0, 0];
          p[axis] = side / 2; p[u] = (a * side) / 2; p[v] = b / 2;
          return p;
        });
        const normal = [0, 0, 0];
        normal[axis] = side;
        face(corners, [normal, normal, normal, normal]);
      }
    return new Float32Array(out);
  }
  const turns = 24;
  const ring = (i) => [Math.cos((2 * Math.PI * i) / turns), Math.sin((2 * Math.PI * i) / turns)];
  if (kind === "cylinder") {
    for (let i = 0; i < turns; i++) {
      const [x0, y0] = ring(i), [x1, y1] = ring(i + 1);
      face([[x0, y0, -0.5], [x1, y1, -0.5], [x1, y1, 0.5], [x0, y0, 0.5]], [[x0, y0, 0], [x1, y1, 0], [x1, y1, 0], [x0, y0, 0]]);
      for (const z of [-0.5, 0.5]) for (const [x, y] of [[0, 0], [x0, y0], [x1, y1]]) out.push(x, y, z, 0, 0, 2 * z);
    }
    return new Float32Array(out);
  }
  const rows = 12;
  const point = (i, j) => {
    const [c, s] = ring(i), t = (Math.PI * j) / rows;
    return [Math.sin(t) * c, Math.sin(t) * s, Math.cos(t)];
  };
  for (let i = 0; i < turns; i++)
    for (let j = 0; j < rows; j++) {
      const corners = [point(i, j), point(i, j + 1), point(i + 1, j + 1), point(i + 1, j)];
      face(corners, corners);
    }
  return new Float32Array(out);
}

const VERTEX = `#version 300 es
uniform mat4 view, model; uniform vec3 scale; in vec3 position, normal; out vec3 n, p;
void main() { vec4 w = model * vec4(position * scale, 1.0); p = w.xyz; n = mat3(model) * (normal / scale); gl_Position = view * w; }`;
const FRAGMENT = `#version 300 es
precision highp float; uniform vec4 color; uniform float flat_; in vec3 n, p; out vec4 pixel;
void main() {
  vec3 up = normalize(n);
  float light = 0.55 + 0.6 * max(dot(up, normalize(vec3(0.5, 0.35, 0.8))), 0.0) + 0.25 * max(dot(up, normalize(vec3(-0.6, -0.4, 0.3))), 0.0);
  pixel = vec4(color.rgb * mix(light, 1.0, flat_), color.a);
}`;

export class RobotView {
  constructor(canvas) {
    this.canvas = canvas;
    const gl = (this.gl = canvas.getContext("webgl2", { antialias: true, alpha: true }));
    if (!gl) throw new Error("this browser has no WebGL2");
    const program = (this.program = gl.createProgram());
    for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "position");
    gl.bindAttribLocation(program, 1, "normal");
    gl.linkProgram(program);
    gl.useProgram(program);
    this.uniforms = Object.fromEntries(["view", "model", "scale", "color", "flat_"].map((n) => [n, gl.getUniformLocation(program, n)]));
    this.meshes = {};
    for (const kind of ["box", "cylinder", "sphere"]) this.meshes[kind] = this.upload(mesh(kind));
    const grid = [];
    for (let i = -10; i <= 10; i++) for (const p of [[i, -10, 0], [i, 10, 0], [-10, i, 0], [10, i, 0]]) grid.push(p[0] / 2, p[1] / 2, p[2], 0, 0, 1);
    this.grid = this.upload(new Float32Array(grid));
    gl.enable(gl.DEPTH_TEST);
    this.turn = 0.7; this.lift = 0.35; this.distance = 2.5; this.target = [0.12, 0, 0.66];
    this.figure = null; this.joints = {}; this.base = [0, 0, 0];
    this.listen();
  }

  upload(data) {
    const gl = this.gl, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    for (const i of [0, 1]) {
      gl.enableVertexAttribArray(i);
      gl.vertexAttribPointer(i, 3, gl.FLOAT, false, 24, 12 * i);
    }
    return { array, count: data.length / 6 };
  }

  listen() {
    const down = new Map();
    let spread = 0;
    const apart = () => { const [a, b] = [...down.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
    this.canvas.addEventListener("pointerdown", (e) => {
      this.canvas.setPointerCapture(e.pointerId);
      down.set(e.pointerId, { x: e.clientX, y: e.clientY });
      if (down.size === 2) spread = apart();
    });
    this.canvas.addEventListener("pointermove", (e) => {
      const last = down.get(e.pointerId);
      if (!last) return;
      if (down.size === 1) {
        this.turn -= (e.clientX - last.x) * 0.008;
        this.lift = Math.min(1.5, Math.max(-0.1, this.lift + (e.clientY - last.y) * 0.008));
      }
      down.set(e.pointerId, { x: e.clientX, y: e.clientY });
      if (down.size === 2) { const now = apart(); this.zoom(spread / now); spread = now; }
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, (e) => down.delete(e.pointerId));
    this.canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(e.deltaY * 0.001)); this.draw(); }, { passive: false });
  }

  zoom(factor) { this.distance = Math.min(8, Math.max(0.8, this.distance * factor)); }

  set(joints, base) { this.joints = joints; this.base = base; this.draw(); }

  view() {
    // The camera looks at the robot and goes with it.
    const [c, s] = [Math.cos(this.lift), Math.sin(this.lift)];
    const back = [c * Math.cos(this.turn + this.base[2]), c * Math.sin(this.turn + this.base[2]), s];
    const right = [-Math.sin(this.turn + this.base[2]), Math.cos(this.turn + this.base[2]), 0];
    const up = [back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2], back[0] * right[1] - back[1] * right[0]];
    const target = [this.base[0] + this.target[0], this.base[1] + this.target[1], this.target[2]];
    const eye = target.map((t, i) => t + this.distance * back[i]);
    const dot = (a) => -(a[0] * eye[0] + a[1] * eye[1] + a[2] * eye[2]);
    const look = new Float32Array([right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0, dot(right), dot(up), dot(back), 1]);
    const near = 0.05, far = 30, f = 1 / Math.tan(0.35), aspect = this.canvas.width / this.canvas.height;
    const lens = new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
    return multiply(lens, look);
  }

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => { this.pending = 0; this.render(); });
  }

  render() {
    const gl = this.gl, u = this.uniforms, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
    if (!w || !h) return;
    if (this.canvas.width !== w || this.canvas.height !== h) { this.canvas.width = w; this.canvas.height = h; }
    gl.viewport(0, 0, w, h);
    gl.clearColor(0.085, 0.105, 0.135, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(u.view, false, this.view());
    gl.uniformMatrix4fv(u.model, false, identity());
    gl.uniform3f(u.scale, 1, 1, 1);
    gl.uniform4f(u.color, 0.24, 0.3, 0.38, 1);
    gl.uniform1f(u.flat_, 1);
    gl.bindVertexArray(this.grid.array);
    gl.drawArrays(gl.LINES, 0, this.grid.count);
    gl.uniform1f(u.flat_, 0);
    if (!this.figure) return;
    const poses = forward(this.figure, this.joints, this.base);
    for (const [link, shapes] of Object.entries(this.figure.links))
      for (const shape of shapes) {
        const [a, b, c] = shape.size;
        gl.uniformMatrix4fv(u.model, false, multiply(poses[link], fromPose(shape.pose)));
        gl.uniform3f(u.scale, ...(shape.kind === "box" ? [a, b, c] : shape.kind === "cylinder" ? [a, a, b] : [a, a, a]));
        gl.uniform4f(u.color, ...shape.color.map((v, i) => (i < 3 ? 0.2 + 0.8 * v : 1)));
        const { array, count } = this.meshes[shape.kind];
        gl.bindVertexArray(array);
        gl.drawArrays(gl.TRIANGLES, 0, count);
      }
  }
}
