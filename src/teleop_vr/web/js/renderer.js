/** Draws flat textured panels and boxes with WebGL2; knows nothing of robots. Colours: [red, green, blue, alpha]. */
import { product } from "./maths.js";

const PANEL_VERTEX = `#version 300 es
layout(location = 0) in vec3 corner;
uniform mat4 transform;
out vec2 at;
out vec2 within;
void main() {
  within = corner.xy;
  at = vec2(corner.x + 0.5, 0.5 - corner.y);
  gl_Position = transform * vec4(corner, 1.0);
}`;

const PANEL_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D picture;
uniform vec2 size;     // m
uniform float rounding; // radius of the corners, m
uniform vec4 rim;      // colour of the border
uniform float dim;     // 1 as it is, 0 black
in vec2 at;
in vec2 within;
out vec4 colour;
void main() {
  vec2 d = abs(within) * size - size * 0.5 + rounding;
  float outside = length(max(d, 0.0)) + min(max(d.x, d.y), 0.0) - rounding;
  float edge = fwidth(outside);
  float alpha = 1.0 - smoothstep(-edge, 0.0, outside);
  vec4 texel = texture(picture, at);
  texel.rgb *= dim;
  float border = smoothstep(-0.006 - edge, -0.006, outside) * rim.a;
  colour = mix(texel, vec4(rim.rgb, 1.0), border) * alpha;
}`;

const BOX_VERTEX = `#version 300 es
layout(location = 0) in vec3 corner;
layout(location = 1) in vec3 normal;
uniform mat4 transform;
uniform mat4 place;
out float light;
void main() {
  light = 0.62 + 0.38 * dot(normalize(mat3(place) * normal), normalize(vec3(0.35, 0.85, 0.4)));
  gl_Position = transform * vec4(corner, 1.0);
}`;

const BOX_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 tint;
in float light;
out vec4 colour;
void main() { colour = vec4(tint.rgb * light * tint.a, tint.a); }`;

const FLOOR_VERTEX = `#version 300 es
layout(location = 0) in vec3 corner;
uniform mat4 transform;
out vec2 at;
void main() { at = corner.xy * 24.0; gl_Position = transform * vec4(at.x, 0.0, at.y, 1.0); }`;

const FLOOR_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 tint;
in vec2 at;
out vec4 colour;
void main() {
  vec2 line = abs(fract(at - 0.5) - 0.5) / fwidth(at);
  float on = 1.0 - min(min(line.x, line.y), 1.0);
  float far = 1.0 - smoothstep(2.0, 9.0, length(at));
  colour = vec4(tint.rgb, 1.0) * on * far * tint.a;
}`;

const QUAD = new Float32Array([-0.5, -0.5, 0, 0.5, -0.5, 0, -0.5, 0.5, 0, 0.5, 0.5, 0]);

/** Corners and normals of a box of edge 1 around the origin. */
function boxVertices() {
  const out = [];
  for (let axis = 0; axis < 3; axis++) {
    for (const side of [-1, 1]) {
      const corner = (u, v) => {
        const p = [0, 0, 0];
        p[axis] = side / 2;
        p[(axis + 1) % 3] = u;
        p[(axis + 2) % 3] = v;
        return p;
      };
      const n = [0, 0, 0];
      n[axis] = side;
      const [a, b, c, d] = [corner(-0.5, -0.5), corner(0.5, -0.5), corner(0.5, 0.5), corner(-0.5, 0.5)];
      const faces = side > 0 ? [a, b, c, a, c, d] : [a, c, b, a, d, c];
      for (const p of faces) out.push(...p, ...n);
    }
  }
  return new Float32Array(out);
}

function program(gl, vertex, fragment) {
  const out = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(`shader: ${gl.getShaderInfoLog(shader)}`);
    gl.attachShader(out, shader);
  }
  gl.linkProgram(out);
  if (!gl.getProgramParameter(out, gl.LINK_STATUS)) throw new Error(`shader program: ${gl.getProgramInfoLog(out)}`);
  return new Proxy(
    { use: () => gl.useProgram(out) },
    {
      get(target, name) {
        if (name in target) return target[name];
        return (target[name] = gl.getUniformLocation(out, name)); // uniforms by their names
      },
    },
  );
}

function mesh(gl, vertices, sizes) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, vertices, gl.STATIC_DRAW);
  const stride = 4 * sizes.reduce((a, b) => a + b, 0);
  let offset = 0;
  sizes.forEach((size, i) => {
    gl.enableVertexAttribArray(i);
    gl.vertexAttribPointer(i, size, gl.FLOAT, false, stride, offset);
    offset += 4 * size;
  });
  gl.bindVertexArray(null);
  return array;
}

/** A picture on the graphics card, replaced as newer ones come. */
export class Texture {
  width = 0;
  height = 0;
  #gl;
  #texture;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.#gl = gl;
    this.#texture = gl.createTexture();
  }

  /**
   * Put a bitmap or a canvas in it.
   * @param {ImageBitmap|OffscreenCanvas} source
   * @param {boolean} lettered it holds writing, which is to stay legible from afar
   */
  load(source, lettered = false) {
    const gl = this.#gl;
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true);
    if (source.width === this.width && source.height === this.height) {
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gl.RGBA, gl.UNSIGNED_BYTE, source);
    } else {
      this.width = source.width;
      this.height = source.height;
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
      for (const [name, value] of [
        [gl.TEXTURE_MIN_FILTER, lettered ? gl.LINEAR_MIPMAP_LINEAR : gl.LINEAR],
        [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
        [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
      ]) {
        gl.texParameteri(gl.TEXTURE_2D, name, value);
      }
    }
    if (lettered) gl.generateMipmap(gl.TEXTURE_2D);
  }

  /** Make it the one that is drawn. */
  bind() {
    this.#gl.activeTexture(this.#gl.TEXTURE0);
    this.#gl.bindTexture(this.#gl.TEXTURE_2D, this.#texture);
  }
}

export class Renderer {
  #gl;
  #panel;
  #box;
  #floor;
  #quad;
  #cube;
  #view = null;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.#gl = gl;
    this.#panel = program(gl, PANEL_VERTEX, PANEL_FRAGMENT);
    this.#box = program(gl, BOX_VERTEX, BOX_FRAGMENT);
    this.#floor = program(gl, FLOOR_VERTEX, FLOOR_FRAGMENT);
    this.#quad = mesh(gl, QUAD, [3]);
    this.#cube = mesh(gl, boxVertices(), [3, 3]);
  }

  /** Begin a picture: clear the layer's framebuffer. */
  begin(layer, background) {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(...background);
    gl.clearDepth(1);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // colours come premultiplied
    gl.disable(gl.CULL_FACE);
  }

  /** Draw from now on as one eye sees it. */
  look(viewport, projection, fromSpace) {
    this.#gl.viewport(viewport.x, viewport.y, viewport.width, viewport.height);
    this.#view = product(projection, fromSpace);
  }

  /** Grid on the floor that fades with distance. */
  floor(tint) {
    const gl = this.#gl;
    this.#floor.use();
    gl.uniformMatrix4fv(this.#floor.transform, false, this.#view);
    gl.uniform4fv(this.#floor.tint, tint);
    gl.bindVertexArray(this.#quad);
    gl.depthMask(false);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.depthMask(true);
  }

  /**
   * A picture on a flat panel.
   * @param {Texture} texture
   * @param {Float32Array} place matrix that stretches the unit square to the panel
   * @param {[number, number]} size of the panel, m
   * @param {{rounding?: number, rim?: number[], dim?: number}} look
   */
  panel(texture, place, size, { rounding = 0.02, rim = [0, 0, 0, 0], dim = 1 } = {}) {
    const gl = this.#gl;
    this.#panel.use();
    texture.bind();
    gl.uniform1i(this.#panel.picture, 0);
    gl.uniformMatrix4fv(this.#panel.transform, false, product(this.#view, place));
    gl.uniform2fv(this.#panel.size, size);
    gl.uniform1f(this.#panel.rounding, rounding);
    gl.uniform4fv(this.#panel.rim, rim);
    gl.uniform1f(this.#panel.dim, dim);
    gl.bindVertexArray(this.#quad);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** A box of one colour; its matrix stretches the unit cube. */
  box(place, tint) {
    const gl = this.#gl;
    this.#box.use();
    gl.uniformMatrix4fv(this.#box.transform, false, product(this.#view, place));
    gl.uniformMatrix4fv(this.#box.place, false, place);
    gl.uniform4fv(this.#box.tint, tint);
    gl.bindVertexArray(this.#cube);
    gl.drawArrays(gl.TRIANGLES, 0, 36);
  }
}
