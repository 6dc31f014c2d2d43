// What a person does with the runs of a session: node e2e/runs.mjs [FOLDER]. The hub is made up, so is the script.
import { answers as asked } from "./asked.mjs";
import { faked } from "./faked.mjs";

const folder = process.argv[2] ?? "";
const faults = [];
const check = (right, what) => { if (!right) faults.push(what); };
const now = Date.now() / 1000;
const STEPS = 1200;
const HOSTILE = '<img src=x onerror="document.title=1">';

const branch = (run, parent, step, changes) => ({ run, parent, step, kind: "fork", parents: [], checkpoint: "", selection: "", samples: 0, loader: "", changes: {}, budget: "", strategy: "", verdict: "", trained: 0, by: "dashboard", time: now - 500, ...changes });
const held = (run, step, changes = {}) => ({ run, current: false, step, checkpoint: `run-${run}`, back: true, reason: "", ...changes });
const group = { optimizer: 0, kind: "AdamW", group: 0, parameters: 1000, values: { lr: 0.0003, weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8 } };
const controls = () => ({
  groups: [group], checkpoints: [
    { name: "baseline-800", run: "baseline", step: 800, epoch: 1, time: now - 900, why: "asked", memory: 1e6, disk: 1e6, state: "durable", back: true },
    { name: "baseline-100", run: "baseline", step: 100, epoch: 0, time: now - 1900, why: "every", memory: 0, disk: 1e6, state: "durable", back: false, reason: "it is of another process" },
  ],
  progress: null, evaluations: 4,
  runs: [held("baseline", 1200), held("fork1", 1400), held("fork2", 1350, { back: false, reason: "its checkpoint was deleted" }), held("merge1", 1400, { current: true, checkpoint: "" })],
});
const session = {
  id: "k3f9q2ma", name: "digits.py", project: "birds", script: "digits.py", argv: [], cwd: "/home/ana", run: "merge1", state: "paused", since: now - 40, by: "dashboard", reason: "merge1 is made", started: now - 3000, ended: null,
  step: 1400, epoch: 2, backwards: 1600, samples: 51_200, loss: 0.2412, step_ms: 4.2, onthefly_us: 46, world_size: 1, ranks: [], notices: [], versions: { torch: "2.13" }, metrics: ["loss", "lr"], logs: 0, journal: 0, unsaved_since: null, unsaved_reason: "", controls: controls(),
  branches: [
    branch("fork1", "baseline", 1200, { selection: "worst=144", samples: 144, loader: "loader0", changes: { lr: 0.0001 }, budget: "200 steps", verdict: "ended after 200 steps", trained: 200 }),
    branch("fork2", "baseline", 1200, { selection: "class=3,5", samples: 290, loader: "loader0", budget: "10 minutes", verdict: `cancelled by ${HOSTILE}`, trained: 150, by: HOSTILE }),
    branch("merge1", "fork1", 1400, { kind: "merge", parents: ["baseline", "fork1", "fork2"], strategy: "fisher", verdict: "better than baseline on loader1: loss 0.2412, 0.0713 lower (0.0513 to 0.0904)" }),
  ],
};

const noise = (step, seed) => Math.sin(step * 12.9898 + seed) * 0.5 + Math.sin(step * 78.233 + seed) * 0.5;
const curve = (length, low) => Array.from({ length }, (_, step) => low + 2.2 * Math.exp(-step / 400) + 0.08 * noise(step, low));
const LOW = { baseline: 0.3, fork1: 0.22, fork2: 0.27, merge1: 0.2, fork3: 0.25 };
const table = (url) => {
  const [run, name] = [url.searchParams.get("run"), url.searchParams.get("name")];
  const value = name === "loss" ? curve(run === "baseline" ? STEPS : STEPS + 200, LOW[run]) : name === "lr" ? Array.from({ length: STEPS }, () => 3e-4) : [];
  return { session: session.id, run, name, cursor: "1", bucketed: false, step: value.map((_, step) => step), epoch: value.map((_, step) => Math.floor(step / 500)), time: value.map((_, step) => now - STEPS + step), value, low: value, high: value };
};
const compared = (loss, accuracy, middle, half) => ({ loss, accuracy, difference: middle, low: middle - half, high: middle + half, wins: 190, losses: 120 });
const comparison = (url) => {
  const runs = url.searchParams.get("runs").split(",");
  const part = (name, count, losses, half) => ({ name, count, runs: runs.map((_, at) => (at ? compared(losses[at] ?? 0.3, 0.93 + at / 100, (losses[at] ?? 0.3) - losses[0], half) : { loss: losses[0], accuracy: 0.93 })) });
  return {
    session: session.id, loader: url.searchParams.get("loader") ?? "loader1", select: url.searchParams.get("select") ?? "", runs: runs.map((run, at) => ({ run, evaluation: `test_${at + 1}`, step: 1200 + at * 50 })),
    verdict: `${runs[1]} is better than ${runs[0]} on the slice, and no different on the rest.`,
    parts: [part("all", 360, [0.31, 0.285, 0.33], 0.02), part("slice", 36, [1.42, 1.05, 1.6], 0.14), part("rest", 324, [0.19, 0.2, 0.19], 0.012), ...Array.from({ length: 10 }, (_, at) => part(`class ${at}`, 36, [0.3 + at / 50, 0.28, 0.31 + at / 40], 0.04))],
  };
};
const counts = Array.from({ length: 40 }, (_, bin) => Math.round(240 * Math.exp(-(((bin - 7) / 6) ** 2)) + 40 * Math.exp(-(((bin - 22) / 5) ** 2))));
const sum = counts.reduce((all, count) => all + count, 0);
const row = (at) => ({ run: "merge1", phase: "train", evaluation: null, epoch: 2, step: 1390, backward: 1390, loader: "loader0", position: at, sample: 7 + 3 * at, key: null, loss: 5 - at / 10, valid: 1, certificate: "exact", identity: "index", confidence: 0.02, margin: -3, target: 3, predicted: 5, tags: null });
const answers = [
  ["/runs", { runs: ["baseline", "fork1", "fork2", "merge1"].map((name, at) => ({ name, parents: [], started: now - 3000 + at, backwards: 1200 - 200 * at, samples: 5000, first_step: at ? 1200 : 0, last_step: 1199 + 50 * at })) }],
  ["/metrics", table], ["/comparison", comparison],
  ["/selection", (_, body) => ({ session: session.id, run: "merge1", phase: "train", evaluation: "", epoch: body.epoch ?? null, select: body.select, count: 24, says: "", rows: Array.from({ length: 24 }, (_, at) => row(at)) })],
  ["/histogram", (url) => ({ session: session.id, run: url.searchParams.get("run"), phase: "train", epoch: 2, count: sum, nonfinite: 0, low: 0, high: 6.5, edges: counts.map((_, bin) => bin * 0.1625).concat(6.5), counts, median: 1.2, certificates: { exact: sum }, identities: { index: 1 }, lost: [], phases: ["train"] })],
  ["/journal", { session: session.id, entries: [] }], ["/logs", { session: session.id, entries: [], cursor: "0", earlier: false }], ["/samples", []], ...asked,
];
let last = 0;
function reply({ id, name, args }) {
  const answer = (changes = {}) => ({ id, n: ++last, status: "applied", step: session.step, result: {}, ...changes });
  if (name === "fork" && args.name === "fork1") return answer({ status: "refused", reason: "there is a run fork1 already", remedy: "take another name" });
  if (name === "fork") {
    session.controls = { ...session.controls, progress: { what: "fork3", done: 37, of: 120 } };
    return null;
  }
  if (name === "merge") return answer({ status: "refused", reason: "merge2 is worse than baseline: loss 0.52, 0.21 higher (0.15 to 0.28)", remedy: "force takes it anyway" });
  if (name === "compare") return answer({ result: { evaluations: Object.fromEntries(args.runs.map((run, at) => [run, `test_${at + 3}`])), loader: "loader1" } });
  return answer();
}
const METRICS = { loss: curve(1400, 0.2), lr: Array.from({ length: 1400 }, () => 3e-4) };

const { browser, page, wrong, sent, asked: paths, tell, follow } = await faked({ width: 1400, height: 900, answers, session, metrics: METRICS, reply });
const until = async (what, test) => {
  for (const end = Date.now() + 10_000; Date.now() < end; ) {
    if (await test().catch(() => false)) return true;
    await page.waitForTimeout(30);
  }
  faults.push(`not within 10 s: ${what}`);
  return false;
};
const says = (selector, pattern) => async () => pattern.test(await page.locator(selector).first().innerText());
const shot = async (name, full = true) => {
  for (const [width, colorScheme] of folder ? [[1400, "light"], [1400, "dark"], [360, "light"]] : []) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    await page.waitForTimeout(250);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wider > 0) faults.push(`${name}: wider than a window of ${width} px by ${wider} px`);
    await page.screenshot({ path: `${folder}/pageruns-${name}-${colorScheme}-${width}.png`, fullPage: full });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1400, height: 900 });
};
const tab = (name) => page.getByRole("tab", { name: new RegExp(`^${name}`) }).click();
const node = (run) => page.locator(`#run-${run}`);
const newest = (name) => sent.filter((each) => each.name === name).at(-1)?.args;
const same = (what, is, wanted) => { check(JSON.stringify(is) === JSON.stringify(wanted), `${what}: ${JSON.stringify(is)}, not ${JSON.stringify(wanted)}`); };
const dialog = page.locator("dialog");

// The graph, and what it says of each run.
await tab("Runs");
await until("four runs", async () => (await page.locator(".run").count()) === 4);
check((await page.locator(".edge").count()) === 5, "an edge from each parent");
await until("the loss of a run that is not current", async () => /loss 0\.\d+/.test(await node("fork1").getAttribute("aria-label")));
check(/fork · step 1,400/.test(await node("fork1").textContent()), "what a run is, and where it stands");
check((await node("merge1").getAttribute("class")).includes("current"), "the current one is marked");
await shot("graph");
await node("fork2").click();
await until("what it was trained on", says(".detail-of", /class=3,5: 290 samples[\s\S]*10 minutes/));
check((await page.locator(".detail-of").innerText()).includes(HOSTILE), "a name is text, whatever it holds");
check(await page.getByRole("button", { name: "Switch to it" }).isDisabled(), "no switch to one that there is no way back to");
check(/its checkpoint was deleted/.test(await page.locator(".detail-of").innerText()), "and why");
await node("baseline").click();
await page.getByRole("button", { name: "Switch to it" }).click();
await until("a switch", async () => newest("switch") !== undefined);
same("switch", newest("switch"), { run: "baseline" });

// By keys: from the baseline to the right, chosen as well.
await page.locator(".lineage").focus();
await page.keyboard.press("ArrowRight");
await page.keyboard.press("Enter");
await until("two are chosen", says(".chosen-runs", /2 runs/));
const second = (await page.locator(".run.looked").getAttribute("id")).replace("run-", "");
check(second.startsWith("fork"), `to the right of the baseline is a fork, not ${second}`);
await page.keyboard.press("Escape");
await node("baseline").click();
await node("fork1").click({ modifiers: ["Shift"] });
await node("fork2").click({ modifiers: ["Control"] });
await until("three are chosen", says(".chosen-runs", /3 runs/));

// Compared, on a slice.
await page.getByLabel("Slice").fill("class=3");
await page.getByRole("button", { name: "Compare", exact: true }).click();
await until("the comparison", says(".compared", /all[\s\S]*slice[\s\S]*rest[\s\S]*class 9/));
same("compare", newest("compare"), { runs: ["baseline", "fork1", "fork2"] });
check(paths.some((path) => path.endsWith("/comparison?runs=baseline%2Cfork1%2Cfork2&loader=loader1&select=class%3D3")), "of the loader that the script took");
check((await page.locator(".compared .interval").count()) === 26, "an interval for each difference");
check((await page.locator(".effect.better").count()) > 0 && (await page.locator(".effect.worse").count()) > 0, "what is sure is coloured");
check(/fork1 is better than baseline on the slice/.test(await page.locator(".result h3").innerText()), "a verdict in words");
await shot("compared");

// Merged: what is typed wrong is said, what is refused stands in the card.
await page.getByRole("button", { name: "Merge…" }).click();
check(await dialog.getByRole("radio", { name: /^slerp/ }).isDisabled(), "slerp takes two");
await dialog.getByRole("radio", { name: /^dare/ }).check();
await dialog.getByLabel("drop", { exact: true }).fill("1,5");
await dialog.getByRole("button", { name: "Merge", exact: true }).click();
await until("what is no number", says("dialog .said.wrong", /drop: write 1.5 with a point/));
await dialog.getByLabel("drop", { exact: true }).fill("0.5");
await dialog.getByLabel("Optimizer").selectOption("mean");
await shot("merge", false);
await dialog.getByRole("button", { name: "Merge", exact: true }).click();
await until("that it is refused, and the remedy", says("dialog .said.wrong", /0.21 higher[\s\S]*force takes it anyway/));
same("merge", newest("merge"), { strategy: "dare", runs: ["baseline", "fork1", "fork2"], parameters: { drop: 0.5 }, optimizer: "mean" });
await page.keyboard.press("Escape");

// Forked, from a selection in the histogram: its epoch is not what a fork selects by, so the samples are named.
const bars = await page.locator(".histogram").boundingBox();
await page.mouse.move(bars.x + bars.width * 0.5, bars.y + 60);
await page.mouse.down();
await page.mouse.move(bars.x + bars.width - 1, bars.y + 60, { steps: 4 });
await page.mouse.up();
await page.locator(".brushed").getByRole("button", { name: "Fork on these" }).click();
await until("the card", () => dialog.isVisible());
check((await dialog.getByLabel("On", { exact: true }).inputValue()).startsWith("sample=7,10,13"), "the samples that were drawn around");
check(/loss=3\.\d+: \(train, epoch 2\), 24 samples/.test(await dialog.innerText()), "and what they are");
await dialog.getByLabel("Name").fill("fork1");
await dialog.getByRole("button", { name: "Fork", exact: true }).click();
await until("a fork on these very samples", async () => newest("fork")?.samples?.length === 24);
await until("a name that is taken", says("dialog .said.wrong", /there is a run fork1 already[\s\S]*take another name/));
await dialog.getByLabel("Name").fill("");
await dialog.getByLabel("From").selectOption("baseline-800");
check((await dialog.getByLabel("From").locator("option").count()) === 2, "only checkpoints that there is a way back to");
await dialog.getByLabel("On", { exact: true }).fill("worst=144");
await dialog.getByLabel("For", { exact: true }).fill("120");
await dialog.getByLabel("lr", { exact: true }).fill("1e-4");
await dialog.getByLabel("betas", { exact: true }).fill("0.8, 0.99");
await shot("fork", false);
await dialog.getByRole("button", { name: "Fork", exact: true }).click();
await until("the card is closed once it has begun", async () => !(await dialog.isVisible()));
same("fork", newest("fork"), { steps: 120, settings: { lr: 0.0001, betas: [0.8, 0.99] }, checkpoint: "baseline-800", select: "worst=144", loader: "loader0" });
await until("how far it is", says(".acts-of", /fork3: 37 of 120/));
await page.locator(".acts-of").getByRole("button", { name: "Cancel" }).click();
await until("it is ended", async () => newest("cancel") !== undefined);

// In the list of samples the text itself is taken.
await tab("Samples");
await page.getByLabel("Losses of").selectOption("newest");
await until("they are of the newest losses", says(".meant", /^24 samples[\s\S]*newest losses/));
await page.getByLabel(/^Select/).fill("class=3 worst=20");
await page.getByLabel(/^Select/).press("Enter");
await page.locator("#tab").getByRole("button", { name: "Fork on these" }).click();
await until("the card", () => dialog.isVisible());
same("the selection's text", await dialog.getByLabel("On", { exact: true }).inputValue(), "class=3 worst=20");
await dialog.getByRole("button", { name: "Close" }).click();

// Another run is looked at; then the page goes back to the current one, and follows.
await tab("Runs");
await page.getByLabel("Run that is shown").selectOption("fork1");
await until("its histogram", async () => paths.some((path) => path.includes("/histogram?run=fork1")));
await until("its curve", async () => /from step 0 to 1399, from 2\.\d+ to 0\.\d+/.test(await page.locator(".plot").first().getAttribute("aria-label")));
Object.assign(session, { run: "fork3", step: 920, loss: 0.4 });
session.branches = [...session.branches, branch("fork3", "baseline", 800, { selection: "worst=144", samples: 144, budget: "120 steps", checkpoint: "baseline-800" })];
session.controls = { ...session.controls, progress: null, runs: [...session.controls.runs.map((run) => ({ ...run, current: false })), held("fork3", 920, { current: true, checkpoint: "" })] };
METRICS.loss = curve(920, 0.25);
follow();
await until("five runs", async () => (await page.locator(".run").count()) === 5);
check((await page.getByLabel("Run that is shown").inputValue()) === "fork1", "the page keeps the run that was picked");
check(/to 1399,/.test(await page.locator(".plot").first().getAttribute("aria-label")), "and its curve");
await shot("picked");
await page.getByRole("button", { name: "follow fork3" }).click();
await until("the curve of the current run", async () => /from step 0 to 919,/.test(await page.locator(".plot").first().getAttribute("aria-label")));
Object.assign(session, { run: "baseline", step: 1200 });
METRICS.loss = curve(1200, 0.3);
follow();
await until("it follows", async () => (await page.getByLabel("Run that is shown").inputValue()) === "baseline");
await until("with its curve", async () => /from step 0 to 1199,/.test(await page.locator(".plot").first().getAttribute("aria-label")));

// Two hundred runs can be walked; a script that has ended takes no commands; a single run says what a fork is.
session.branches = Array.from({ length: 199 }, (_, at) => branch(`fork${at + 1}`, at % 7 ? `fork${Math.floor(at / 3) + 1}` : "baseline", 1200));
session.controls = { ...session.controls, runs: [] };
const began = Date.now();
tell();
await until("two hundred runs", async () => (await page.locator(".run").count()) >= 200);
check(Date.now() - began < 5000, `two hundred runs took ${Date.now() - began} ms`);
await page.locator(".lineage").focus();
for (let at = 0; at < 6; at++) await page.keyboard.press(at % 2 ? "ArrowDown" : "ArrowRight");
await until("what is walked to is in sight", () => page.locator(".run.looked").evaluate((box) => { const [inner, outer] = [box.getBoundingClientRect(), box.closest(".lineage").getBoundingClientRect()]; return inner.left >= outer.left && inner.right <= outer.right && inner.top >= outer.top && inner.bottom <= outer.bottom; }));
await shot("many");
Object.assign(session, { branches: [], state: "paused" });
answers[0][1] = { runs: [] };
answers.find(([part]) => part === "/runs")[1] = { runs: [] };
Object.assign(session, { id: "z3f9q2mb" });
follow();
await until("what a fork is", says("#tab", /baseline is the only run so far[\s\S]*A fork is a run of its own/));
await shot("alone");
Object.assign(session, { state: "ended", reason: "", by: "" });
tell();
await until("nothing to fork where the script has ended", says("#tab", /The script has ended/));
check(await page.getByRole("button", { name: "Fork…" }).isDisabled(), "no fork of what has ended");
check((await page.title()) !== "1", "nothing that was written was run");

faults.push(...wrong);
await browser.close();
for (const fault of faults) console.log(`wrong: ${fault}`);
console.log(faults.length ? "failed" : "as it should be");
process.exit(faults.length ? 1 : 0);
