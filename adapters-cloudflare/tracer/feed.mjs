// feed.mjs URL: listeners come, are hinted and go; who has gone holds no socket of the workspace's object.
import { request } from "node:http";
import { send, Tally } from "./call.mjs";

const base = process.argv[2];
const tally = new Tally();
// Lower case would be another object's name: ids are written in one way only.
const id = `ws_01JD${Date.now().toString(32).toUpperCase().padStart(12, "0").replaceAll(/[ILOU]/g, "Z")}0000000000`;
const path = `/feed/${id}`;

/** Waits for a condition, half a minute at most. */
async function until(what, holds) {
  let found;
  for (let tries = 0; tries < 300; tries += 1) {
    found = await holds();
    if (found === true) return tally.check(what, []);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  tally.check(what, [`it is ${found}`]);
}
const count = async () => Number((await send(base, "PUT", path)).text);
const counts = (wanted) => async () => (await count()) === wanted || (await count());
// The platform notices who left when there is something to write; event streams write at least every fifteen seconds.
const left = (wanted) => async () => {
  await send(base, "POST", path);
  return counts(wanted)();
};

/** Listens; `lines` grows. */
function listen() {
  const listener = { lines: [], leave: () => call.destroy() };
  const call = request(new URL(path, base), (answer) => {
    answer.on("data", (chunk) => listener.lines.push(...chunk.toString().split("\n").filter(Boolean)));
    answer.on("error", () => {});
  });
  call.on("error", () => {});
  call.end();
  return listener;
}

const [one, two] = [listen(), listen()];
const hints = (listener) => listener.lines.filter((line) => line === "hint").length;
await until("two listen", async () => (one.lines.length === 1 && two.lines.length === 1) || "not both");
await until("the object knows two", counts(2));
await send(base, "POST", path);
await until("both are hinted", async () => (hints(one) >= 1 && hints(two) >= 1) || "not both");
one.leave();
await until("who left holds no socket", left(1));
const before = hints(two);
await send(base, "POST", path);
await until("who stayed is hinted", async () => hints(two) > before || "silent");
two.leave();
await until("nobody listens", left(0));
tally.close("listeners");
