import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NotServed } from "../src/hub";
import { ASK_MS, Machine } from "../src/machine";
import { FakeHub, status } from "./fake";

beforeEach(() => { vi.useFakeTimers(); });
afterEach(() => { vi.useRealTimers(); });

describe("Machine", () => {
  it("asks while somebody watches, and no longer", async () => {
    const hub = new FakeHub();
    hub.answer = () => status();
    const machine = new Machine(hub, () => undefined);
    const [one, two] = [machine.watch(), machine.watch()];
    await vi.advanceTimersByTimeAsync(2 * ASK_MS);
    expect(hub.asked).toEqual(["hub", "hub", "hub"]);
    expect(machine.cpu).toEqual([1.5, 1.5, 1.5]);
    one();
    await vi.advanceTimersByTimeAsync(ASK_MS);
    expect(hub.asked).toHaveLength(4);
    two();
    await vi.advanceTimersByTimeAsync(5 * ASK_MS);
    expect(hub.asked).toHaveLength(4);
  });

  it("begins a new history with another hub", async () => {
    const hub = new FakeHub();
    let pid = 1;
    hub.answer = () => status({ pid });
    const machine = new Machine(hub, () => undefined);
    machine.watch();
    await vi.advanceTimersByTimeAsync(ASK_MS);
    pid = 2;
    await vi.advanceTimersByTimeAsync(ASK_MS);
    expect(machine.rss).toHaveLength(1);
  });

  it("asks on after a failure, but not a hub that does not know the question", async () => {
    const hub = new FakeHub();
    let fault: Error = new Error("gone");
    hub.answer = () => { throw fault; };
    const machine = new Machine(hub, () => undefined);
    machine.watch();
    await vi.advanceTimersByTimeAsync(ASK_MS);
    expect(hub.asked).toHaveLength(2);
    expect(machine.fault).toContain("did not answer");
    fault = new NotServed({ code: "http_404", message: "Not Found" });
    await vi.advanceTimersByTimeAsync(5 * ASK_MS);
    expect(hub.asked).toHaveLength(3);
    expect(machine.fault).toContain("older than the page");
  });
});
