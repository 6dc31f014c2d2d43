import { afterEach, describe, expect, it, vi } from "vitest";
import { csv, download, fileName } from "../src/download";

afterEach(() => { vi.restoreAllMocks(); });

describe("downloads", () => {
  it("writes a table with the time in UTC, and what is no number as what it is", () => {
    const text = csv({
      session: "s", run: "baseline", name: "loss", cursor: "2", bucketed: false, step: [0, 7], epoch: [0, 1],
      time: [0, 1.5], value: [0.25, "nan"], low: [0.25, "-inf"], high: [0.25, "inf"],
    });
    expect(text).toBe("step,epoch,time,value,low,high\r\n0,0,1970-01-01T00:00:00.000Z,0.25,0.25,0.25\r\n7,1,1970-01-01T00:00:01.500Z,nan,-inf,inf\r\n");
  });

  it("names files by session and metric, without what a file's name must not hold", () => {
    expect(fileName("k3f9q2ma", "loss", "csv")).toBe("k3f9q2ma-loss.csv");
    expect(fileName("k3f9q2ma", "lr/1", "png")).toBe("k3f9q2ma-lr-1.png");
    expect(fileName("k3f9q2ma", "../../x y", "csv")).toBe("k3f9q2ma-..-..-x-y.csv");
  });

  it("hands the content to the browser under its name", () => {
    const clicked: [string, string][] = [];
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
      clicked.push([this.download, this.href]);
    });
    download("a.csv", new Blob(["x"]));
    expect(clicked[0]?.[0]).toBe("a.csv");
    expect(clicked[0]?.[1]).toMatch(/^blob:/);
  });
});
