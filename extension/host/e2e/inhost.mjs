// Runs dist-suite/index.js inside the editor's real extension host; exit code 0 if all of it passed. From the environment,
// besides what editor.mjs wants: WORKSPACE (a .code-workspace), EXTENSION (this folder), PYTHON.
import util from "node:util";
import { Editor } from "./editor.mjs";

const { WORKSPACE, EXTENSION, PYTHON, SHOTS } = process.env;
const LIMIT_MS = 100_000;

const editor = await Editor.start({ driver: true, machine: { "onthefly.python": PYTHON } });
let code = 124;
try {
  const ended = new Promise((resolve) => {
    setTimeout(resolve, LIMIT_MS, 124);
    void editor.page.exposeFunction("codeAutomationLog", (type, words) => {
      const text = util.format(...words);
      if (/^(ok|wrong): /.test(text)) console.log(text);
    });
    void editor.page.exposeFunction("codeAutomationExit", resolve);
  });
  const payload = [["extensionDevelopmentPath", editor.authority + EXTENSION], ["extensionTestsPath", `${editor.authority}${EXTENSION}/dist-suite/index.js`]];
  await editor.page.goto(`${editor.base}/?workspace=${encodeURIComponent(WORKSPACE)}&payload=${encodeURIComponent(JSON.stringify(payload))}`);
  code = await ended;
  if (code) await editor.page.screenshot({ path: `${SHOTS}/inhost-failed.png` });
} finally {
  await editor.stop();
}
console.log(`exit ${code}`);
process.exit(code);
