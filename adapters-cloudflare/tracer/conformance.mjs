// conformance.mjs URL: every case of the ports that have a home on Cloudflare.
import { send, Tally } from "./call.mjs";

const base = process.argv[2];
const tally = new Tally();
const { json: names } = await send(base, "GET", "/cases");
for (const name of names) {
  let answer = await send(base, "POST", `/cases/${name}`);
  for (let tries = 0; answer.status === 202 && tries < 300; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    answer = await send(base, "POST", `/cases/${name}?run=${answer.text}`);
  }
  tally.check(name, answer.status === 204 ? [] : [`${answer.status} ${answer.text}`]);
}
tally.close("conformance on Cloudflare");
