// Reads a JSON list of [frame, stamp] and writes each frame's bytes as one line of hexadecimal.
import { readFileSync } from "node:fs";
import { encodeFrame } from "../../../web/js/protocol.js";

for (const [frame, stamp] of JSON.parse(readFileSync(0, "utf8"))) {
  console.log(Buffer.from(encodeFrame(frame, stamp)).toString("hex"));
}
