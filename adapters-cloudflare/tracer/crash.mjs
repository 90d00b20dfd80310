// crash.mjs URL: begins a run and says its build on standard output, once its second step is under way.
// crash.mjs URL BUILD: behind the end of everything, the run goes on where it was.
import { send, Tally } from "./call.mjs";

const [, , base, build] = process.argv;
const answer = await send(base, "POST", `/cases/crash/${build ?? "before"}`);
if (build === undefined) {
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  console.log(answer.text);
} else {
  const tally = new Tally();
  tally.check("a run goes on behind a crash, with the step that was cut off", answer.status === 204 ? [] : [`${answer.status} ${answer.text}`]);
  tally.close("crash");
}
