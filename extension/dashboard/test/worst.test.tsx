import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Model } from "../src/model";
import { LAST, ORDERS, type Order } from "../src/orders";
import { HistogramCard, trust } from "../src/parts/Histogram";
import { Worst } from "../src/parts/Worst";
import type { Session } from "../src/protocol";
import type { Learned, Recorded } from "../src/samples";
import { histogram, learned, recorded, session, shown } from "./fake";

let root: HTMLElement;

beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
});
afterEach(() => { render(null, root); });

/** Both cards, as they are drawn now. */
async function draw(model: Model, changes: Partial<Session> = {}): Promise<string> {
  await act(() => { render(<><HistogramCard model={model} session={session()} /><Worst model={model} session={session(changes)} /></>, root); });
  return root.textContent;
}

/** A page that shows these rows. */
function listed(rows: Recorded[] | Learned[], order: Order["name"] = "loss", changes: Parameters<typeof histogram>[0] = {}): Model {
  const { model } = shown();
  const chosen = ORDERS.find(({ name }) => name === order) ?? LAST;
  Object.assign(model.samples, {
    histogram: histogram(changes), order: chosen, loaded: true, [chosen === LAST ? "recorded" : "learned"]: rows,
  });
  return model;
}

const texts = (selector: string) => [...root.querySelectorAll(selector)].map(({ textContent }) => textContent);

describe("Worst", () => {
  it("walks the samples with the arrow keys", async () => {
    await draw(listed([recorded(), recorded({ sample: 8, position: 4 })]));
    const table = root.querySelector("table");
    await act(() => { table?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true })); });
    expect(root.querySelector(".detail")?.textContent).toContain("Sample 8 of the dataset");
  });

  it("names a sample by its key, and says where a number is a place in a stream", async () => {
    await draw(listed([recorded({ sample: null, key: "birds/<b>7" }), recorded({ sample: 40, identity: "stream" }), recorded({ sample: null, identity: "none" })]));
    expect(texts("td:first-child")).toEqual(["birds/<b>7", "40", "–"]);
    expect(root.querySelector("td .key")?.getAttribute("title")).toBe("birds/<b>7");
    expect(texts(".tag")).toEqual(["stream"]);
    expect(texts("th")[0]).toBe("sample");
    const rows = root.querySelectorAll<HTMLElement>("tbody tr");
    await act(() => { rows[1]?.click(); });
    expect(root.querySelector(".detail")?.textContent).toContain("Sample 40 of the stream");
  });

  it("shows the terms of a loss and how many values it averages, and neither where there is nothing to show", async () => {
    await draw(listed([recorded()]));
    expect(texts("th")).toEqual(["index", "step", "row", "loss"]);
    expect(root.querySelector(".parts, .terms")).toBeNull();

    await draw(listed([
      recorded({ loss: 2, valid: 37, "loss.cross_entropy": 2.5, "loss.kl_div": -0.5 }),
      recorded({ loss: 1, position: 9, valid: 1, "loss.cross_entropy": null, "loss.kl_div": 1 }),
    ]));
    expect(texts("th")).toEqual(["index", "step", "row", "values", "loss"]);
    expect(texts(".parts title")).toEqual(["cross_entropy 2.500 + kl_div -0.5000", "kl_div 1.000"]);
    const widths = [...root.querySelectorAll(".parts rect")].map((bar) => [bar.getAttribute("class"), Math.round(Number(bar.getAttribute("width")))]);
    expect(widths).toEqual([["term0", 83], ["term1", 17], ["term1", 50]]);
    expect(texts(".terms .term").map((text) => text.trim())).toEqual(["cross_entropy", "kl_div"]);
    expect(root.querySelector(".detail")?.textContent).toContain("the mean of 37 values");
  });

  it("shows how samples were learned, with the measure that orders last", async () => {
    await draw(listed([learned(), learned({ sample: null, key: "a7", learned: null, forgetting: 0 })], "forgetting"));
    expect(texts("th")).toEqual(["sample", "mean loss", "learned", "forgotten"]);
    expect(texts("tbody tr:last-child td")).toEqual(["a7", "1.500", "never", "0"]);
    expect(root.querySelector(".detail")?.textContent).toContain("right for the first time in epoch 2, forgotten 1 time; confidence 0.3000 ± 0.1000");
  });

  it("has the choice where nothing was recorded for it, and says why not", async () => {
    const text = await draw(listed([learned({ margin: null })], "margin"));
    expect(text).toContain("Not recorded: by how much");
    expect(root.querySelector("table")).toBeNull();
    expect(root.querySelector<HTMLSelectElement>("section[aria-label='Worst samples'] select")?.value).toBe("margin");
  });

  it("says why a stream has no dynamics, and that a long list of records is added up", async () => {
    expect(await draw(listed([], "loss_mean", { identities: { stream: 4 } }))).toContain("which of them is the same as one of another epoch is not known");
    const model = listed([], "loss_mean");
    model.samples.loaded = false;
    expect(await draw(model)).toContain("Adding up 384 records…");
  });

  it("takes another order from the list", async () => {
    const model = listed([recorded()]);
    await draw(model);
    const select = root.querySelector<HTMLSelectElement>("section[aria-label='Worst samples'] select");
    await act(() => {
      if (select) select.value = "confidence";
      select?.dispatchEvent(new Event("change", { bubbles: true }));
    });
    expect(model.samples.order.name).toBe("confidence");
  });
});

describe("HistogramCard", () => {
  const choice = () => texts("[aria-label=Phase] button");

  it("has the choice of a phase only where there are several", async () => {
    await draw(listed([recorded()], "loss", { phases: ["train"] }));
    expect(choice()).toEqual([]);
    const model = listed([recorded()], "loss", { phases: ["train", "valid"] });
    await draw(model);
    expect(choice()).toEqual(["training", "validation"]);
    await act(() => { root.querySelectorAll<HTMLElement>("[aria-label=Phase] button")[1]?.click(); });
    expect(model.samples.phase).toBe("valid");
    expect(await draw(model)).toContain("validation: the highest losses of epoch 1");
  });

  it("says how far values and names may be trusted", () => {
    const said = (identities: Record<string, number>, exact = 4) => trust(histogram({ identities, certificates: { exact } }));
    expect(said({ index: 4 })).toBe("exact");
    expect(said({ key: 4 }, 3)).toBe("1 approximate");
    expect(said({ stream: 4 })).toBe("exact, all by place in a stream");
    expect(said({ index: 2, none: 2 })).toBe("exact, 2 without index");
  });
});
