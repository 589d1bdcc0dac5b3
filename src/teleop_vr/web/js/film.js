/**
 * A worker that sends a camera's frames to the server as JPEG. In a worker, because a page encodes pictures only when
 * it is idle, and one that draws a headset's eyes never is; and because the eyes must not wait for pictures.
 */
import { encodeCameraPicture } from "./protocol.js";

const QUALITY = 0.85;
/** Bytes waiting in the browser beyond which a picture is left out. */
const MOST_WAITING = 1 << 18;

addEventListener("message", ({ data }) => film(data), { once: true });

/**
 * @param {object} what
 * @param {ReadableStream<VideoFrame>} what.frames
 * @param {string} what.url of the socket, with the token
 * @param {number} what.origin when the page's clock began, ms: pictures are stamped by the clock of the poses
 */
async function film({ frames, url, origin }) {
  const socket = new WebSocket(url);
  socket.addEventListener("close", ({ reason }) => postMessage({ ended: reason }));
  const reader = frames.getReader();
  let canvas = new OffscreenCanvas(16, 16);
  for (let sequence = 1; ; sequence++) {
    const { done, value: frame } = await reader.read();
    if (done) break;
    const time = (performance.timeOrigin + performance.now() - origin) / 1000;
    const [width, height] = [frame.displayWidth, frame.displayHeight];
    if (canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").drawImage(frame, 0, 0);
    frame.close();
    if (socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > MOST_WAITING) continue;
    const jpeg = await (await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY })).arrayBuffer();
    if (socket.readyState !== WebSocket.OPEN) break;
    socket.send(encodeCameraPicture(jpeg, { sequence, time, width, height }));
  }
  socket.close(1000);
}
