// The built page before a made-up hub, in headless Chromium: what it asks for is answered from a table, what it sends is
// written down. No hub and no script run.
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const STATIC = new URL("../../../onthefly/hub/static/", import.meta.url);
const ADDRESS = "http://127.0.0.1:9/#token=made";
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws:; font-src 'self'";
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml", json: "application/json" };

/** A binary message as the hub sends it: a metric's values, one a step. */
function columns({ id, run }, metric, values) {
  const now = Date.now() / 1000;
  const rows = { step: values.map((_, step) => step), epoch: values.map((_, step) => Math.floor(step / 500)), time: values.map((_, step) => now - (values.length - step) / 4), value: values };
  const header = Buffer.from(JSON.stringify({ session: id, run, metric, reset: true, cursor: "1", columns: Object.keys(rows).map((name) => ({ name, dtype: "f8", count: values.length })) }));
  const first = Buffer.alloc(Math.ceil((4 + header.length) / 8) * 8);
  first.writeUInt32LE(header.length, 0);
  header.copy(first, 4);
  return Buffer.concat([first, ...Object.values(rows).map((row) => Buffer.from(Float64Array.from(row).buffer))]);
}

/**
 * `answers`: parts of paths with what is answered, or a function of the address and the body that says it. `reply`: what
 * the script says to a command; it may change the session first. `tell` sends the session anew, as it is by then.
 */
export async function faked({ width = 1280, height = 800, theme = "light", answers, session, metrics, reply }) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await (await browser.newContext({ viewport: { width, height }, colorScheme: theme })).newPage();
  const [wrong, sent, asked] = [[], [], []];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) wrong.push(message.text()); });
  page.on("pageerror", (error) => wrong.push(error.message));
  await page.route("**/*", async (route) => {
    const url = new URL(route.request().url());
    const { pathname } = url;
    const found = answers.find(([part]) => pathname.startsWith("/api/") && pathname.includes(part));
    if (pathname.startsWith("/api/")) asked.push(pathname + url.search);
    if (found) return route.fulfill({ json: typeof found[1] === "function" ? found[1](url, route.request().postDataJSON()) : found[1] });
    const name = pathname === "/" ? "index.html" : pathname.slice(1);
    try {
      return await route.fulfill({ body: await readFile(new URL(name, STATIC)), headers: { "content-type": TYPES[name.split(".").pop()] ?? "text/plain", "content-security-policy": POLICY } });
    } catch {
      return route.fulfill({ status: 404, json: { error: { code: "http_404", message: "no such page" } } });
    }
  });
  let say = () => undefined;
  let follow = () => undefined;
  await page.routeWebSocket(/ws$/, (socket) => {
    say = (event) => socket.send(JSON.stringify(event));
    let wanted = [];
    follow = () => {
      say({ type: "snapshot", session, sessions: [session], cursor: "1" });
      for (const metric of wanted) if (metrics[metric]) socket.send(columns(session, metric, metrics[metric]));
    };
    socket.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type === "ping") say({ type: "pong" });
      if (message.type === "subscribe") {
        wanted = message.metrics;
        follow();
      }
      if (message.type === "command") {
        sent.push(message);
        say({ type: "answer", session: session.id, answer: { id: message.id, n: 1, status: "accepted" } });
        const answer = reply(message);
        say({ type: "session", session });
        if (answer) say({ type: "answer", session: session.id, answer });
      }
    });
  });
  await page.goto(ADDRESS);
  await page.locator("canvas").first().waitFor();
  return { browser, page, wrong, sent, asked, tell: () => { say({ type: "session", session }); }, follow: () => { follow(); } };
}
