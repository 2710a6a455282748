// Runs one story: node run.mjs STORY. What it needs to know comes in MIZAR_E2E (JSON); what it wants done
// outside the browser it asks for by a line of JSON on its output, and gets a line of JSON as answer.
import { createInterface } from "node:readline";
import { Story } from "./story.mjs";

const told = JSON.parse(process.env.MIZAR_E2E);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function ask(question) {
  process.stdout.write(`${JSON.stringify(question)}\n`);
  const { value, done } = await answers.next();
  if (done) throw new Error("nobody answers");
  const answer = JSON.parse(value);
  if (answer.error) throw new Error(answer.error);
  return answer.ok;
}

const story = new Story(told, ask);
let code = 0;
try {
  const { default: tell } = await import(`./stories/${process.argv[2]}.mjs`);
  await tell(story);
  story.finish();
} catch (error) {
  await story.picture("failed");
  console.error(error.stack ?? error);
  console.error(await story.shown());
  code = 1;
} finally {
  await story.close();
}
process.exit(code);
