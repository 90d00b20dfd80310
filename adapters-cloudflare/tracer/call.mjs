// What both drivers share: calls, and counting what passed. `node:http` and not `fetch`, which sends no Host of ours.
import { request } from "node:http";

/** Sends a request; answers status, headers, text and, where it is JSON, the body. */
export function send(base, method, path, { headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const call = request(new URL(path, base), { method, headers, timeout: 120_000 }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        let json;
        try {
          json = JSON.parse(text);
        } catch {
          json = undefined;
        }
        resolve({ status: answer.statusCode, headers: answer.headers, text, json });
      });
    });
    call.on("timeout", () => call.destroy(new Error(`${method} ${path}: no answer in 120 s`)));
    call.on("error", reject);
    call.end(body);
  });
}

/** Counts; `close` prints the sum and ends with 0 only where something ran and all of it passed. */
export class Tally {
  passed = 0;
  failed = 0;

  check(what, problems) {
    if (problems.length === 0) {
      this.passed += 1;
      console.log(`ok    ${what}`);
    } else {
      this.failed += 1;
      console.log(`FAIL  ${what}\n      ${problems.join("\n").replaceAll("\n", "\n      ")}`);
    }
  }

  close(title) {
    console.log(`${title}: ${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.passed > 0 && this.failed === 0 ? 0 : 1;
  }
}
