// conformance.mjs URL: every case of the ports that have a home on Cloudflare.
import { send, Tally } from "./call.mjs";

const base = process.argv[2];
const tally = new Tally();
const { json: names } = await send(base, "GET", "/cases");
for (const name of names) {
  const answer = await send(base, "POST", `/cases/${name}`);
  tally.check(name, answer.status === 204 ? [] : [`${answer.status} ${answer.text}`]);
}
tally.close("conformance on Cloudflare");
