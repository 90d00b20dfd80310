// A client of server-sent events, as small as the format allows.
import { request } from "node:http";

/** Opens a stream; `frames` grows by `{ id, event, data, comment }`, `until` waits for one, `leave` ends it. */
export function follow(base, path, token, headers = {}) {
  return new Promise((resolve, reject) => {
    const all = { accept: "text/event-stream", authorization: `Bearer ${token}`, ...headers };
    const call = request(new URL(path, base), { headers: all }, (answer) => {
      const frames = [];
      let rest = "";
      answer.setEncoding("utf8");
      answer.on("error", () => {});
      answer.on("data", (text) => {
        const blocks = (rest + text).split("\n\n");
        rest = blocks.pop();
        frames.push(...blocks.map(read));
      });
      const until = async (holds) => {
        for (let tries = 0; tries < 600; tries += 1) {
          if (frames.some(holds)) return true;
          await new Promise((wake) => setTimeout(wake, 50));
        }
        return false;
      };
      resolve({ status: answer.statusCode, type: answer.headers["content-type"], frames, until, leave: () => call.destroy() });
    });
    call.on("error", reject);
    call.end();
  });
}

function read(block) {
  const frame = {};
  for (const line of block.split("\n")) {
    const [, name, value] = /^([a-z]*): ?(.*)$/.exec(line) ?? [];
    if (name !== undefined) frame[name === "" ? "comment" : name] = value;
  }
  return frame;
}
