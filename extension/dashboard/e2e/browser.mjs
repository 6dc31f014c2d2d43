// A page of the dashboard in headless Chromium, with everything it did wrong written down.
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** `framed`: an origin whose page stands in a frame of this one. `beside`: a browser that runs already, to be asked as a stranger. */
export async function open(address, { width = 1400, height = 900, theme = "light", framed = "", beside = null } = {}) {
  const browser = beside ?? await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS });
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
  const page = await context.newPage();
  const wrong = [];
  const own = [new URL(address).origin, framed].filter(Boolean);
  page.on("console", (message) => {
    // A walk that reads a canvas again and again, to see whether it moves, is told to say so: that is not the page's.
    if (message.text().includes("willReadFrequently")) return;
    if (["error", "warning"].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`page error: ${error.message}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && !own.includes(url.origin.replace(/^ws/, "http"))) wrong.push(`request off origin: ${url.origin}`);
  });
  await page.goto(address);
  return { browser, page, wrong };
}

/** Whether something is wider than the window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
