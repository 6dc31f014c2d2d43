import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { held } from "../src/shell";
import { split } from "../src/words";

describe("split", () => {
  it.each([
    ["", []], ["  ", []], ["--epochs 3", ["--epochs", "3"]], ["a\tb\n c", ["a", "b", "c"]],
    [`--name "my run" --tag='a "b"'`, ["--name", "my run", `--tag=a "b"`]],
    [String.raw`a\ b "c\"d" 'e\f' "\x"`, ["a b", `c"d`, String.raw`e\f`, String.raw`\x`]],
    [`'' ""`, ["", ""]], ["$(rm) ; | & `x` *", ["$(rm)", ";", "|", "&", "`x`", "*"]],
  ])("%s", (line, words) => {
    expect(split(line)).toEqual(words);
  });

  it("says which quote is open", () => {
    expect(() => split("--name 'x")).toThrow("a ' is not closed");
  });
});

describe.runIf(process.platform !== "win32")("held", () => {
  it("hands every argument on as it is, and tells how it ended", () => {
    const code = "import sys; print(sys.argv[1:]); sys.exit(3)";
    const words = ["it's a path/x.py", 'a"b', "$(touch /tmp/x)", "", "two\nlines", "*", "-n"];
    const { path, args } = held("python3", ["-c", code, ...words]);
    const out = execFileSync(path, args, { input: "\n", encoding: "utf8" });
    expect(out.split("\n")[0]).toBe(`["it's a path/x.py", 'a"b', '$(touch /tmp/x)', '', 'two\\nlines', '*', '-n']`);
    expect(out).toContain("ended with code 3 - Enter closes this terminal");
  });
});

describe("held on Windows", () => {
  it("quotes as PowerShell wants it", () => {
    expect(held("C:\\py.exe", ["it's"], "win32").args.at(-1)).toBe("& 'C:\\py.exe' 'it''s'");
  });
});
