// router.mjs URL: the router on D1, as a client sees it, and what each request asked of the database.
//
// The Worker runs with FLARE_COUNT=1, FLARE_REGISTRATION=open and FLARE_PLAN=tiny, whose limits are within reach.
import { gzipSync } from "node:zlib";
import { send, Tally } from "./call.mjs";
import { follow } from "./events.mjs";
import { tar } from "./tar.mjs";

const base = process.argv[2];
const tally = new Tally();
const table = [];
// A read may ask three times; a write asks what it has to know, and commits once.
const READ = 3;

/** Sends, and looks at the answer: `status`, the problem's `code`, `reads` at most, `batches` exactly. */
async function ask(what, method, path, wanted, { token, json, body, headers = {} } = {}) {
  const all = { ...headers };
  if (token) all.authorization = `Bearer ${token}`;
  if (json !== undefined) all["content-type"] ??= "application/json";
  const answer = await send(base, method, path, { headers: all, body: json === undefined ? body : JSON.stringify(json) });
  const [, reads, batches] = /^reads=(\d+), batches=(\d+)$/.exec(answer.headers["flare-d1"] ?? "") ?? [];
  const problems = [];
  const differ = (name, found, expected) => {
    if (found !== expected) problems.push(`${name}: ${found}, wanted ${expected}\n${answer.text.slice(0, 400)}`);
  };
  differ("status", answer.status, wanted.status);
  if (wanted.status >= 400) {
    differ("media type", answer.headers["content-type"], "application/problem+json");
    differ("status in the problem", answer.json?.status, wanted.status);
  }
  if (wanted.code) differ("code", answer.json?.code, wanted.code);
  if (wanted.field) differ("field", answer.json?.field, wanted.field);
  if (!("batches" in wanted) || wanted.batches !== undefined) differ("batches", Number(batches), wanted.batches ?? 0);
  if (!(Number(reads) <= (wanted.reads ?? READ))) problems.push(`reads: ${reads}, wanted at most ${wanted.reads ?? READ}`);
  tally.check(`${what}: ${method} ${path.length > 60 ? `${path.slice(0, 60)}…` : path} → ${answer.status}`, problems);
  if (wanted.row) table.push([`${method} ${wanted.row}`, answer.status, reads, batches]);
  return answer.json ?? {};
}

const that = (what, holds, found) => tally.check(what, holds ? [] : [JSON.stringify(found)]);

/** Sends all at once; looks at how many got which answer. */
async function race(what, count, call, wanted) {
  const answers = await Promise.all(Array.from({ length: count }, (_, index) => call(index)));
  const found = {};
  for (const { status, json } of answers) {
    const key = `${status}${json?.code ? ` ${json.code}` : ""}`;
    found[key] = (found[key] ?? 0) + 1;
  }
  that(`${what}: ${JSON.stringify(found)}`, JSON.stringify(found) === JSON.stringify(wanted), { found, wanted });
  return answers;
}
const post = (path, token, json) => {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  return send(base, "POST", path, { headers, body: JSON.stringify(json) });
};

const stamp = `${Date.now().toString(36)}${process.pid}`;
const person = (name) => `${name}-${stamp}@example.com`;
const register = (name, row) =>
  ask("register", "POST", "/api/v1/auth/register", { status: 201, reads: 0, batches: 1, row }, { json: { email: person(name) } });

// The server itself.
await ask("alive", "GET", "/healthz", { status: 200, reads: 0, row: "/healthz" });
const server = await ask("about", "GET", "/api/v1/server", { status: 200, reads: 0, row: "/api/v1/server" });
that("registration is as configured", server.registration === "open", server);

// Who may ask: names and origins.
const foreign = { email: person("foreign") };
await ask("a rebound name", "GET", "/api/v1/server", { status: 421, code: "misdirected", reads: 0 }, { headers: { host: "evil.example" } });
await ask("a rebound name", "POST", "/api/v1/auth/register", { status: 421, code: "misdirected", reads: 0 },
  { json: foreign, headers: { host: `evil.example:${new URL(base).port}` } });
for (const origin of ["https://evil.example", "null", "http://127.0.0.1:1"]) {
  await ask(`a page of ${origin}`, "POST", "/api/v1/auth/register", { status: 403, code: "foreign_origin", reads: 0 }, { json: foreign, headers: { origin } });
}
await ask("a page of a sibling", "POST", "/api/v1/auth/register", { status: 403, code: "foreign_origin", reads: 0 },
  { json: foreign, headers: { "sec-fetch-site": "same-site" } });

// Accounts.
const ann = await register("ann", "/api/v1/auth/register");
const bob = await register("bob");
await register("foreign"); // None of the refused ones had an effect.
const a = ann.tokens.access_token;
const b = bob.tokens.access_token;
await ask("taken", "POST", "/api/v1/auth/register", { status: 409, code: "email_taken", reads: 0, batches: 1 }, { json: { email: person("ann") } });
const me = await ask("who am I", "GET", "/api/v1/me", { status: 200, reads: 1, row: "/api/v1/me" }, { token: a });
that("it is who registered", me.user?.email === person("ann") && me.role === "owner", me);
for (const token of [undefined, "nonsense", `${a}x`, `${a.slice(0, -1)}${a.endsWith("A") ? "B" : "A"}`, ann.tokens.refresh_token]) {
  await ask("no token of ours", "GET", "/api/v1/me", { status: 401, code: "unauthenticated", reads: 1 }, { token });
}

// Templates.
const templates = "/api/v1/templates";
const made = await ask("create", "POST", templates, { status: 201, reads: 1, batches: 1, row: templates }, { token: a, json: { name: "node-dev" } });
const list = await ask("list", "GET", templates, { status: 200, row: templates }, { token: a });
that("the list has it", list.items?.length === 1 && list.items[0].id === made.id && list.next_cursor === null, list);
const byId = await ask("get by id", "GET", `${templates}/${made.id}`, { status: 200, row: `${templates}/{id}` }, { token: a });
const byName = await ask("get by name", "GET", `${templates}/node-dev`, { status: 200, row: `${templates}/{name}` }, { token: a });
that("both are the same", JSON.stringify(byId) === JSON.stringify(byName) && byId.name === "node-dev", { byId, byName });
await ask("a taken name", "POST", templates, { status: 409, code: "name_taken", reads: 1, batches: 1 }, { token: a, json: { name: "node-dev" } });
for (const way of ["archive", "restore"]) {
  const path = `${templates}/node-dev/${way}`;
  const { archived_at: at } = await ask(way, "POST", path, { status: 200, reads: 2, batches: 1, row: `${templates}/{template}/${way}` }, { token: a });
  that(`it is ${way}d`, (at !== null) === (way === "archive"), at);
  await ask(`${way} again changes nothing`, "POST", path, { status: 200, reads: 2 }, { token: a });
}

// Another tenant.
for (const [method, path] of [
  ["GET", `${templates}/${made.id}`],
  ["GET", `${templates}/node-dev`],
  ["POST", `${templates}/${made.id}/archive`],
  ["GET", `${templates}/${made.id}/versions`],
]) {
  await ask("somebody else's", method, path, { status: 404, code: "not_found" }, { token: b });
}
const empty = await ask("somebody else's list", "GET", templates, { status: 200 }, { token: b });
that("it is empty", empty.items?.length === 0, empty);
await ask("the same name elsewhere", "POST", templates, { status: 201, reads: 1, batches: 1 }, { token: b, json: { name: "node-dev" } });

// Ids of nothing, and bad input. None of it is written.
const none = "01JD0000000000000000000000";
for (const path of [
  `${templates}/tpl_${none}`, `${templates}/nothing`, `${templates}/ses_${none}`, `${templates}/%00`, `${templates}/Nope!`,
  `${templates}/node-dev/versions/ver_${none}`, `${templates}/node-dev/versions/9.9.9`, `/api/v1/sessions/ses_${none}`,
  `/api/v1/builds/bld_${none}`, `/api/v1/sessions/ses_${none}/snapshots`, "/api/v1/nothing",
]) {
  await ask("nothing there", "GET", path, { status: 404 }, { token: a });
}
const bad = (what, wanted, rest) => ask(what, "POST", templates, { reads: 1, ...wanted }, { token: a, ...rest });
await bad("no JSON", { status: 400, code: "invalid", field: "body" }, { body: "{", headers: { "content-type": "application/json" } });
for (const [json, field] of [
  [{}, "name"], [{ name: 1 }, "name"], [{ name: "A B" }, "name"], [{ name: "" }, "name"],
  [{ name: "x".repeat(10_000) }, "name"], [{ name: "a'; DROP TABLE templates;--" }, "name"], [{ name: "a", colour: 1 }, "colour"],
]) {
  await bad(`bad field ${JSON.stringify(json).slice(0, 40)}`, { status: 400, code: "invalid", field }, { json });
}
await bad("another type", { status: 415 }, { body: "name=a", headers: { "content-type": "text/plain" } });
await bad("too large", { status: 413 }, { json: { name: "x".repeat(300_000) } });
await ask("a bad limit", "GET", `${templates}?limit=0`, { status: 400, field: "limit", reads: 1 }, { token: a });
await ask("a bad cursor", "GET", `${templates}?cursor=x`, { status: 400, field: "cursor", reads: 1 }, { token: a });
await ask("another method", "DELETE", templates, { status: 405 }, { token: a });
const same = await ask("list", "GET", templates, { status: 200 }, { token: a });
that("nothing was written", same.items?.length === 1, same);

// What works on records alone.
const versions = `${templates}/node-dev/versions`;
const version = await ask("version", "POST", versions, { status: 201, batches: 1, row: `${templates}/{template}/versions` }, { token: a, json: { label: "1.0.0" } });
await ask("versions", "GET", versions, { status: 200, row: `${templates}/{template}/versions` }, { token: a });
await ask("version by label", "GET", `${versions}/1.0.0`, { status: 200, row: `${templates}/{template}/versions/{version}` }, { token: a });
for (const path of ["releases", "sessions", "builds", "members", "workspaces", "invites", "tokens", "audit"]) {
  await ask(path, "GET", `/api/v1/${path}`, { status: 200, row: `/api/v1/${path}` }, { token: a });
}
const invite = await ask("invite", "POST", "/api/v1/invites", { status: 201, reads: 1, batches: 1, row: "/api/v1/invites" }, { token: a, json: { role: "viewer" } });
await ask("register with an invite", "POST", "/api/v1/auth/register", { status: 201, reads: 1, batches: 1 }, { json: { email: person("eve"), code: invite.code } });
const wish = { name: "ci", scopes: ["read"] };
const pat = await ask("token", "POST", "/api/v1/tokens", { status: 201, reads: 1, batches: 1, row: "/api/v1/tokens" }, { token: a, json: wish });
await ask("a personal token reads", "GET", templates, { status: 200 }, { token: pat.token });
await ask("and does not write", "POST", templates, { status: 403, code: "scope_missing", reads: 1 }, { token: pat.token, json: { name: "x" } });
await ask("revoke", "DELETE", `/api/v1/tokens/${pat.id}`, { status: 204, reads: 2, batches: 1, row: "/api/v1/tokens/{token}" }, { token: a });
await ask("a revoked token", "GET", templates, { status: 401, reads: 1 }, { token: pat.token });

// A bundle goes to the bucket.
const bundle = `${versions}/${version.id}/bundle`;
await ask("no bundle", "PUT", bundle, { status: 400 }, { token: a, body: "x", headers: { "content-type": "application/gzip" } });
const packed = { token: a, body: gzipSync(tar({ "flare.toml": 'base = "default"\n', "main.txt": "hello\n".repeat(9_000) })), headers: { "content-type": "application/gzip" } };
const uploaded = await ask("bundle", "PUT", bundle, { status: 201, reads: 4, batches: 1, row: `${templates}/{template}/versions/{version}/bundle` }, packed);

// What has no port here.
const ready = await send(base, "GET", "/readyz");
const oks = Object.fromEntries(Object.entries(ready.json?.probes ?? {}).map(([name, probe]) => [name, probe.ok]));
that("readiness says what is missing", ready.status === 503 && JSON.stringify(oks) === '{"blobs":true,"machines":false,"store":true}', ready.json);
await ask("a planned route", "GET", "/api/v1/usage", { status: 501, code: "not_supported" }, { token: a });

// Live: a change is heard without polling, and what was missed is told to who comes back.
const events = "/api/v1/events";
const live = await follow(base, events, a);
that("live events are a stream", live.status === 200 && live.type === "text/event-stream", live);
await live.until((frame) => frame.id !== undefined);
const from = live.frames[0]?.id;
let pushed = 0;
for (const way of ["archive", "restore"]) {
  await ask(`${way}, heard`, "POST", `${templates}/node-dev/${way}`, { status: 200, reads: 2, batches: 1 }, { token: a });
  const wanted = (frame) => frame.event === `template.${way}`;
  that(`${way} is heard`, await live.until(wanted), live.frames);
  // What is found by looking again comes right behind a sign of life.
  const before = live.frames[live.frames.findIndex(wanted) - 1];
  if (!before?.comment?.includes("still here")) pushed += 1;
}
that("and that by a hint", pushed > 0, live.frames);
live.leave();
const late = await follow(base, events, a, { "last-event-id": from });
that("who comes back hears what was missed", await late.until((frame) => frame.event === "template.restore"), late.frames);
late.leave();

// A build goes its way: outbox, queue, workflow. Its steps need a machine, and there is none here: three attempts, then an end.
// The clock, which delivers what waits for the next attempt, is turned by hand.
let build;
for (let tries = 0; tries < 240 && !["failed", "succeeded", "canceled"].includes(build?.state); tries += 1) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  if (tries % 10 === 9) {
    const tick = await send(base, "GET", "/cdn-cgi/handler/scheduled");
    if (tick.status !== 200) that("the clock", false, tick);
  }
  build = (await send(base, "GET", `/api/v1/builds/${uploaded.build_id}`, { headers: { authorization: `Bearer ${a}` } })).json;
}
that("a build without machines ends and says why", build?.state === "failed" && build.attempt === 3 && build.failure?.message.includes("3 times"), build);

// Races: the commit decides.
const name = (index) => ({ name: `slot-${index}` });
await race("eight racers against each other's revision", 8,
  (index) => post(`${templates}/node-dev/${index % 2 ? "archive" : "restore"}`, a, {}).then(({ status, json }) => ({ status: status === 409 && json?.code === "changed_meanwhile" ? 200 : status })), { "200": 8 });
await ask("restore", "POST", `${templates}/node-dev/restore`, { status: 200, reads: 2, batches: undefined }, { token: a });
await race("two racers for a name", 2, () => post(templates, a, { name: "raced" }), { "201": 1, "409 name_taken": 1 });
await race("a full quota", 2, (index) => post(templates, a, name(index)), { "403 quota_exceeded": 2 });
await race("eight racers for the last template of the plan", 8, (index) => post(templates, b, name(index)), { "201": 1, "403 quota_exceeded": 7 });
await race("four racers for an address", 4, () => post("/api/v1/auth/register", undefined, { email: person("raced") }), { "201": 1, "409 email_taken": 3 });
const full = await ask("list", "GET", `${templates}?limit=1`, { status: 200, row: `${templates}?limit=1` }, { token: b });
const rest = await ask("its next page", "GET", `${templates}?limit=1&cursor=${full.next_cursor}`, { status: 200 }, { token: b });
that("two in all", full.items?.length === 1 && rest.items?.length === 1 && rest.next_cursor === null, { full, rest });

// Single use.
const recover = { email: person("bob"), code: bob.recovery_codes[0] };
await ask("recover", "POST", "/api/v1/auth/recover", { status: 200, batches: 1, row: "/api/v1/auth/recover" }, { json: recover });
await ask("the same code", "POST", "/api/v1/auth/recover", { status: 401, code: "recovery_refused", batches: 1 }, { json: recover });
const again = { email: person("bob"), code: bob.recovery_codes[1] };
await race("four racers for a recovery code", 4, () => post("/api/v1/auth/recover", undefined, again).then((answer) => ({ status: answer.status })), { "200": 1, "401": 3 });
const fresh = await ask("refresh", "POST", "/api/v1/auth/refresh", { status: 200, reads: 5, batches: 1, row: "/api/v1/auth/refresh" }, { json: { refresh_token: bob.tokens.refresh_token } });
await ask("with new tokens", "GET", "/api/v1/me", { status: 200, reads: 1 }, { token: fresh.tokens?.access_token });
// The commit refuses it, and a second one ends the sign-in.
await ask("a refresh token used twice", "POST", "/api/v1/auth/refresh", { status: 401, reads: 6, batches: 2 }, { json: { refresh_token: bob.tokens.refresh_token } });
await ask("ends its sign-in", "GET", "/api/v1/me", { status: 401, reads: 1 }, { token: fresh.tokens?.access_token });

// Rates: a minute has room for sixty calls of a route without token, from one address; other routes are apart.
const wrong = { email: person("nobody"), code: "0000-0000-0000-0000" };
let limited;
for (let round = 0; round < 3 && !limited; round += 1) {
  const answers = await Promise.all(Array.from({ length: 61 }, () => post("/api/v1/auth/recover", undefined, wrong)));
  limited = answers.find(({ status }) => status === 429);
}
that("too many calls are told when to come again", Number(limited?.headers["retry-after"]) === 60 && limited.json?.code === "too_many_requests", limited);
await ask("another route", "GET", "/api/v1/server", { status: 200, reads: 0 });
await ask("log out", "POST", "/api/v1/auth/logout", { status: 204, reads: 2, batches: 1, row: "/api/v1/auth/logout" }, { token: a });
await ask("a token of before", "GET", "/api/v1/me", { status: 401, reads: 1 }, { token: a });

console.log("\nStatements on D1 per request (a batch is one commit)\n");
const row = (cells) => console.log(`${cells[0].padEnd(52)} ${cells.slice(1).map((cell) => String(cell).padStart(7)).join(" ")}`);
row(["route", "status", "reads", "batches"]);
table.forEach(row);
console.log();
tally.close("router on D1");
