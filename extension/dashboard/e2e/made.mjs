// The built page before a made-up hub, whose session has something under control everywhere: for screenshots, and for
// what a person does there. node e2e/made.mjs [FOLDER]; no hub and no script run.
import { answers as asked, shown } from "./asked.mjs";
import { faked } from "./faked.mjs";

const folder = process.argv[2] ?? "";
const STEPS = 3000;
const faults = [];

const now = Date.now() / 1000;
const noise = (step) => Math.sin(step * 12.9898) * 0.5 + Math.sin(step * 78.233) * 0.5;
const lossAt = (step) => 2.4 * Math.exp(-step / 900) + 0.25 + 0.12 * noise(step) + (step === 2110 ? 1.6 : 0);
const group = (number, lr, decay) => ({
  optimizer: 0, kind: "AdamW", group: number, parameters: [1_244_160, 5130][number],
  values: { lr, weight_decay: decay, betas: [0.9, 0.999], eps: 1e-8 },
});
const entry = (step, name, args, before, after, by) => ({ time: now - (STEPS - step) / 4, run: "baseline", step, epoch: Math.floor(step / 500), backward: step, point: step, name, args, before, after, by });
const watch = (alarm, text, cost, action, parameters = {}, found = 0) => ({ alarm, text, cost, action, parameters, found });
const checkpoint = (name, step, changes) => ({ name, run: "baseline", step, epoch: Math.floor(step / 500), time: now - (STEPS - step) / 4, why: "every", memory: 18_400_000, disk: 18_512_000, state: "durable", back: true, reason: "", ...changes });

const controls = {
  pauses: [{ text: "step 4000", by: "dashboard" }, { text: "loss < 0.1 and epoch >= 8", by: "ana (ctl)" }],
  groups: [group(0, 0.0003, 0.01), group(1, 0.001, 0)], clip: "norm 1", frozen: ["encoder.layers.0.*", "*.bias"], frozen_parameters: 262_144,
  subset: { mode: "exclude", count: 12, loader: "loader0", since: 2204 },
  checkpoints: [
    checkpoint("baseline-1000", 1000, { back: false, reason: "it is of epoch 2, and the script is in epoch 6" }),
    checkpoint("baseline-2900", 2900, { state: "failed", disk: 0, fault: "no space left on device" }),
    checkpoint("before-lr", 2950, { why: "asked" }), checkpoint("baseline-3000", 3000, { why: "pause", state: "writing", disk: 0 }),
  ],
  keep: { every: 500, on_pause: true, memory: 512_000_000, disk: 4_000_000_000 },
  watches: [
    watch("nonfinite-loss", "a loss that is NaN or infinite", "free", "pause"), watch("loss-spike", "a loss far above its recent values (robust z-score)", "free", "log", { window: 200, deviations: 8, rise: 0.1, first: 30, calm: 10 }, 1),
    watch("grad-explosion", "a gradient norm far above its recent values", "per step", "off", { factor: 100 }), watch("stalled-loader", "the script waits for data", "free", "log", { seconds: 10 }),
  ],
  findings: [{ alarm: "loss-spike", step: 2110, time: now - 220, text: "loss 2.08, 11 times the spread above the median 0.48", flight: "baseline-2110" }],
  trial: {
    steps: 120, change: "lr 0.0003 -> 0.001", phase: "choose", start: 3000, without: Array.from({ length: 120 }, (_, step) => 0.36 - step * 0.0002 + 0.05 * noise(step)),
    changed: Array.from({ length: 120 }, (_, step) => 0.36 - step * 0.0006 + 0.05 * noise(step) + 0.012 * noise(step + 7)), effect: -0.0238, low: -0.0281, high: -0.0195,
    verdict: "The loss is lower with the change, beyond the spread of the steps.",
  },
};

const session = {
  id: "k3f9q2ma", name: "digits.py", project: "birds", script: "digits.py", argv: [], cwd: "/home/ana", run: "baseline", state: "paused", since: now - 740, by: "ana (ctl)",
  reason: "loss < 0.3 was reached", started: now - 900, ended: null, step: STEPS, epoch: 6, backwards: STEPS, samples: 96_000, loss: 0.3312, step_ms: 4.2, onthefly_us: 46, world_size: 1,
  ranks: [], notices: [], versions: { torch: "2.13" }, metrics: ["loss", "lr", "throughput", "step_ms"], logs: 0, journal: 5, unsaved_since: null, unsaved_reason: "", controls,
};

const journal = {
  session: session.id,
  entries: [
    entry(780, "set", { name: "lr", value: 0.0003 }, { "0/0": 0.001, "0/1": 0.001 }, { "0/0": 0.0003, "0/1": 0.0003 }, "dashboard"), entry(1200, "set", { name: "lr", value: 0.001, group: 1 }, { "0/1": 0.0003 }, { "0/1": 0.001 }, "ana (ctl)"),
    entry(1500, "freeze", { pattern: "encoder.layers.0.*" }, { frozen: 0 }, { frozen: 262_144, parameters: 4 }, "dashboard"), entry(2204, "subset", { mode: "exclude", samples: Array.from({ length: 12 }, (_, at) => at) }, {}, {}, "dashboard"),
    entry(2400, "clip", { norm: 1 }, { clip: "" }, { clip: "norm 1" }, "dashboard"),
  ],
};
const worst = Array.from({ length: 20 }, (_, at) => ({ sample: 1183 - 37 * at, key: null, loss: 6.41 - 0.2 * at, step: 2990 - at, position: (at * 7) % 32, backward: 2990 - at, valid: 1, certificate: "exact", identity: "index" }));
const counts = Array.from({ length: 40 }, (_, bin) => Math.round(240 * Math.exp(-(((bin - 7) / 6) ** 2)) + 40 * Math.exp(-(((bin - 22) / 5) ** 2))));
const histogram = {
  session: session.id, run: "baseline", phase: "train", epoch: 6, count: counts.reduce((sum, count) => sum + count, 0), nonfinite: 0, low: 0, high: 6.5, edges: counts.map((_, bin) => bin * 0.1625).concat(6.5), counts, median: 1.2,
  certificates: { exact: counts.reduce((sum, count) => sum + count, 0) }, identities: { index: 1 }, lost: [], phases: ["train"],
};

const answers = [
  ...asked,
  ["/journal", journal], ["/histogram", histogram], ["/samples", worst], ["/logs", { session: session.id, entries: [], cursor: "0", earlier: false }],
];

const steps = Array.from({ length: STEPS }, (_, step) => step);
const METRICS = { loss: steps.map(lossAt), lr: steps.map((step) => (step < 780 ? 1e-3 : 3e-4)), throughput: steps.map((step) => 7600 + 100 * noise(step)), step_ms: steps.map((step) => 4.2 + 0.2 * noise(step)) };

/** What the made-up script says to a command. */
function reply({ id, name, args }) {
  const refused = (reason, remedy = "") => ({ id, n: 1, status: "refused", step: STEPS, reason, remedy });
  if (name === "pause" && args.when) return refused("“loss <” ends too early", "an expression over metrics, such as loss < 0.1 and epoch >= 2");
  if (name === "set" && args.value < 0) return refused("lr must not be negative");
  if (name === "set") {
    for (const each of controls.groups) if (args.group === undefined || each.group === args.group) each.values[args.name] = args.value;
    return { id, n: 1, status: "applied", step: STEPS, result: { before: { "0/0": 0.0003 }, after: { "0/0": args.value } } };
  }
  if (name === "show") return { id, n: 1, status: "applied", step: STEPS, result: shown(args) };
  if (name === "rewind") return refused("the model has another structure than it had", "start the script again with --resume");
  return { id, n: 1, status: "applied", step: STEPS, result: {} };
}

const open = (view) => faked({ ...view, answers, session, metrics: METRICS, reply });

const shot = async (page, name) => {
  await page.waitForTimeout(400);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wider > 0) faults.push(`${name}: wider than the window by ${wider} px`);
  if (folder) await page.screenshot({ path: `${folder}/made-${name}.png`, fullPage: true });
};
const check = (right, what) => { if (!right) faults.push(what); };
const top = (page, selector) => page.locator(selector).first().evaluate((element) => element.getBoundingClientRect().top + scrollY);

/** What is asked about samples, and that it is drawn. */
async function explored(page, label) {
  const tab = (name) => page.getByRole("tab", { name: new RegExp(`^${name}`) }).click();
  await tab("Samples");
  await page.locator(".gallery img").first().waitFor();
  check((await page.locator(".gallery .reason").count()) > 0, "why a sample cannot be drawn");
  check((await page.locator(".gallery .wave").count()) > 0, "a waveform");
  await shot(page, `${label}-samples`);
  await tab("Review");
  await page.locator(".stage img").first().waitFor();
  const at = await top(page, ".verdicts");
  await page.getByRole("button", { name: "The next" }).click();
  check(Math.abs((await top(page, ".verdicts")) - at) < 1, "the buttons of the review moved");
  await shot(page, `${label}-review`);
  await tab("Map");
  const canvas = page.locator(".scatter canvas");
  await canvas.waitFor();
  await canvas.evaluate((element) => { element.scrollIntoView({ block: "center" }); });
  const { x, y, width, height } = await canvas.boundingBox();
  await page.mouse.move(x + 4, y + 4);
  await page.mouse.down();
  for (const [dx, dy] of [[width / 2, 4], [width / 2, height - 4], [4, height - 4], [4, height / 2]]) await page.mouse.move(x + dx, y + dy, { steps: 3 });
  await page.mouse.up();
  await page.getByText(/^[1-9][\d,]* chosen$/).waitFor({ timeout: 5000 }).catch(() => undefined); // the page is drawn a frame later
  const chosen = Number((await page.getByText(/^\d[\d,]* chosen$/).innerText()).replace(/\D/g, ""));
  check(chosen > 300 && chosen < 1100, `${label}: half of the map is chosen, not ${chosen} (${[x, y, width, height].map(Math.round).join(" ")})`);
  await shot(page, `${label}-map`);
  await page.getByRole("button", { name: "class", exact: true }).click();
  await page.getByRole("button", { name: "Look at them" }).click();
  check((await page.getByLabel(/^Select/).inputValue()).startsWith("sample="), "the lasso's samples are shown");
  await tab("Test");
  await page.locator(".matrix").waitFor();
  check(/beside test_2|beside test_1/.test(await page.locator(".result h3").innerText()), "it is compared with the one before");
  await shot(page, `${label}-test`);
  await tab("Health");
  await page.locator(".health").waitFor();
  check((await page.locator(".health .verdict-of").first().innerText()).includes("bad"), "the worst first");
  await page.getByRole("button", { name: "4 rows" }).click();
  await shot(page, `${label}-health`);
}

/** What a person does, and that nothing moves under the hand. */
async function walk(page, label) {
  await shot(page, label);
  const before = await top(page, ".tabs");
  await page.getByRole("button", { name: "Pause at a later moment" }).click();
  await page.getByLabel("Pause when").fill("loss <");
  await page.keyboard.press("Enter");
  await page.locator(".panel .said.wrong").waitFor();
  check(/ends too early/.test(await page.locator(".panel .said.wrong").innerText()), "the refusal stands under the field");
  await shot(page, `${label}-pause`);
  await page.keyboard.press("Escape");
  check((await page.locator(".panel").count()) === 0, "Escape closes the menu");
  check((await top(page, ".tabs")) === before, "the page moved under the menu");
  await shot(page, `${label}-refused`);
  await page.getByRole("button", { name: "Stop the script" }).click();
  await shot(page, `${label}-stop`);
  await page.keyboard.press("Escape");

  await page.getByRole("tab", { name: "Control" }).click();
  const cell = page.getByLabel("lr of AdamW, group 0");
  const at = await top(page, "#tab table tr:last-child");
  await cell.fill("-1");
  await cell.press("Enter");
  await page.locator("#tab .said.wrong").waitFor();
  await shot(page, `${label}-control-refused`);
  await cell.press("Escape");
  check((await cell.inputValue()) === "3e-4", "Escape puts back what is there");
  await cell.fill("1e-4");
  await cell.press("Enter");
  await page.getByText("lr 3e-4 → 1e-4").waitFor();
  check((await top(page, "#tab table tr:last-child")) === at, "the table moved");
  await shot(page, `${label}-control`);
  await explored(page, label);
  for (const name of ["Checkpoints", "Trial", "Watchdogs", "Journal"]) {
    await page.getByRole("tab", { name }).click();
    await shot(page, `${label}-${name.toLowerCase()}`);
  }
  await page.getByRole("button", { name: "780" }).click();
  await page.getByLabel("Choose sample 1183").click();
  await page.getByLabel("Choose sample 1072").click({ modifiers: ["Shift"] });
  check(/4 samples chosen/.test(await page.locator(".chosen-samples").innerText()), "a range of four");
  await shot(page, `${label}-chosen`);
}

for (const theme of ["light", "dark"]) {
  for (const width of [1280, 900, 360]) {
    controls.groups[0].values.lr = 0.0003;
    const { browser, page, wrong } = await open({ width, theme });
    await walk(page, `${theme}-${width}`);
    faults.push(...wrong.map((what) => `${theme} ${width}: ${what}`));
    await browser.close();
  }
}
for (const fault of faults) console.log(`wrong: ${fault}`);
console.log(faults.length ? "failed" : "as it should be");
process.exit(faults.length ? 1 : 0);
