import { beforeEach, describe, expect, it, vi } from "vitest";
import { followTheme, onTheme } from "../src/theme";

let system: { matches: boolean; listeners: (() => void)[] };

beforeEach(() => {
  system = { matches: false, listeners: [] };
  vi.stubGlobal("matchMedia", () => ({ get matches() { return system.matches; }, addEventListener: (_: string, listener: () => void) => { system.listeners.push(listener); } }));
  document.body.className = "";
  delete document.body.dataset["vscodeThemeId"];
});

describe("theme", () => {
  it("is the system's in a browser", () => {
    followTheme(document.documentElement, document.body);
    expect(document.documentElement.dataset["theme"]).toBe("light");
    system.matches = true;
    for (const listener of system.listeners) listener();
    expect(document.documentElement.dataset["theme"]).toBe("dark");
  });

  it.each([
    ["vscode-dark", "dark"], ["vscode-light", "light"], ["vscode-high-contrast", "dark contrast"],
    ["vscode-high-contrast vscode-high-contrast-light", "light contrast"],
  ])("is the editor's in the editor: %s", (className, theme) => {
    system.matches = !theme.startsWith("dark");
    document.body.className = className;
    document.body.dataset["vscodeThemeId"] = "A Theme";
    followTheme(document.documentElement, document.body);
    expect(document.documentElement.dataset["theme"]).toBe(`${theme} A Theme`);
  });

  it("tells of each change, also from one dark theme to another", async () => {
    document.body.className = "vscode-dark";
    followTheme(document.documentElement, document.body);
    const seen: string[] = [];
    const end = onTheme(document.documentElement, (theme) => { seen.push(theme); });
    document.body.dataset["vscodeThemeId"] = "Other";
    await new Promise((resume) => setTimeout(resume, 5));
    end();
    expect(seen).toEqual(["dark Other"]);
  });
});
