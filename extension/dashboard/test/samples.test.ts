import { afterEach, describe, expect, it, vi } from "vitest";
import { ORDERS, missing, type Order } from "../src/orders";
import { parts, type Learned } from "../src/samples";
import { histogram, learned, recorded, session, shown } from "./fake";

afterEach(() => { vi.restoreAllMocks(); });

const order = (name: Order["name"]): Order => {
  const found = ORDERS.find((row) => row.name === name);
  if (!found) throw new Error(name);
  return found;
};

/** A page that shows a session with twelve backward calls, and the requests that it made. */
async function page(rows: Learned[] = [learned()]) {
  const { hub, model } = shown();
  hub.answers.set("histogram", histogram({ phases: ["train", "valid"] }));
  hub.answers.set("samples?", [recorded()]);
  hub.answers.set("dynamics?", rows);
  const { samples } = model;
  await vi.waitFor(async () => {
    await samples.refresh(); // what it asked by itself came before there were answers
    expect(samples.loaded).toBe(true);
  });
  hub.asked.length = 0;
  return { hub, model, samples };
}

describe("SampleStore", () => {
  it("asks only when there are new records, and only for the worst", async () => {
    const { hub, model, samples } = await page();
    await samples.refresh();
    expect(hub.asked).toEqual([]);
    model.event({ type: "session", session: session({ backwards: 13 }) });
    await samples.refresh();
    await samples.refresh();
    expect(hub.asked).toEqual([
      "sessions/k3f9q2ma/histogram?run=baseline&phase=train",
      "sessions/k3f9q2ma/samples?order=worst&epoch=1&run=baseline&phase=train&limit=20",
    ]);
  });

  it("asks for the dynamics when they are chosen, and not again without new records", async () => {
    const { hub, samples } = await page();
    samples.choose(order("margin"));
    expect(samples.loaded).toBe(false);
    await vi.waitFor(() => { expect(samples.learned).toHaveLength(1); });
    await samples.refresh();
    expect(hub.asked.filter((path) => path.includes("dynamics"))).toEqual([
      "sessions/k3f9q2ma/dynamics?order=margin&run=baseline&phase=train&limit=20",
    ]);
  });

  it("asks nothing while nobody sees the page", async () => {
    const { hub, model, samples } = await page();
    model.event({ type: "session", session: session({ backwards: 13 }) });
    vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    await samples.refresh();
    expect(hub.asked).toEqual([]);
  });

  it("shows what was chosen last, whatever comes in between", async () => {
    const { hub, samples } = await page();
    samples.choose(order("margin"));
    samples.choose(order("loss_mean"));
    samples.look("valid");
    await vi.waitFor(() => { expect(samples.loaded).toBe(true); });
    expect(hub.asked.filter((path) => path.includes("dynamics"))).toEqual([
      "sessions/k3f9q2ma/dynamics?order=loss_mean&run=baseline&phase=valid&limit=20",
    ]);
  });

  it("goes back to training with another session, and keeps the order", async () => {
    const { model, samples } = await page();
    samples.choose(order("margin"));
    samples.look("valid");
    await vi.waitFor(() => { expect(samples.loaded).toBe(true); });
    model.event({ type: "snapshot", session: session({ id: "zzzzzzzz" }), sessions: [], cursor: "0" });
    expect([samples.phase, samples.order.name, samples.learned]).toEqual(["train", "margin", []]);
  });

  it("says that the hub did not answer, and asks again", async () => {
    const { hub, samples } = await page();
    hub.answers.delete("dynamics?");
    samples.choose(order("margin"));
    await vi.waitFor(() => { expect(samples.fault).toContain("asked again"); });
    hub.answers.set("dynamics?", [learned()]);
    await samples.refresh();
    expect([samples.fault, samples.learned.length]).toEqual(["", 1]);
  });
});

describe("orders", () => {
  it("say why there is no list where nothing was recorded for them", () => {
    const nothing = [learned({ confidence: null, variability: null, margin: null, forgetting: null, learned: null })];
    const without = ORDERS.filter((row) => missing(row, nothing)).map(({ name }) => name);
    expect(without).toEqual(["forgetting", "confidence", "variability", "margin"]);
    expect(ORDERS.filter((row) => missing(row, [learned(), ...nothing]))).toEqual([]);
  });

  it("write what is not known as such", () => {
    const text = (name: Order["name"], row: Learned) => order(name).columns.map((column) => column.text(row));
    expect(text("forgetting", learned({ learned: null, forgetting: 0 }))).toEqual(["1.500", "never", "0"]);
    expect(text("forgetting", learned({ learned: null, forgetting: null }))).toEqual(["1.500", "–", "–"]);
    expect(text("loss_mean", learned({ loss_last: "nan", loss_mean: null }))).toEqual(["5", "nan", "–"]);
  });
});

describe("parts", () => {
  it("are the terms of a loss, without those that this one does not have", () => {
    expect(parts(recorded({ "loss.cross_entropy": 1.5, "loss.kl_div": null }))).toEqual([["cross_entropy", 1.5]]);
    expect(parts(recorded())).toEqual([]);
  });
});
