// What Cloudflare loads: the built module as it is, and the one class that has to be JavaScript.
import { WorkflowEntrypoint } from "cloudflare:workers";
import worker, { BuildSteps } from "./build/index.js";

export default worker;
export * from "./build/index.js";

// A step is tried three times, as by the journal of one machine. It ends by itself long before this time: by the
// deadlines of the control plane.
const TRIED = { retries: { limit: 2, delay: "1 second", backoff: "exponential" }, timeout: "6 hours" };
// Giving up has to succeed; the records' own deadlines are behind it.
const INSISTED = { retries: { limit: 20, delay: "5 seconds", backoff: "linear" }, timeout: "5 minutes" };

/** One attempt of a build. What its steps are, and what they do, is Rust's. */
export class BuildWorkflow extends WorkflowEntrypoint {
  async run(event, step) {
    const { run } = event.payload;
    // Made anew for each call: the module may have been loaded anew meanwhile.
    const steps = () => new BuildSteps(this.env, this.ctx);
    try {
      // No step of a build has a space in its name.
      for (const name of await step.do("the steps", TRIED, () => steps().steps(run))) {
        if (!(await step.do(name, TRIED, () => steps().step(run, name)))) return;
      }
    } catch (error) {
      const reason = String(error?.message ?? error).slice(0, 500);
      await step.do("give up", INSISTED, async () => (await steps().abandon(run, reason), null));
    }
  }
}
