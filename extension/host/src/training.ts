// Does a Python file train, and on which line does it start? Decided by its text: no Python runs for a code lens.

const IMPORTS = /^[ \t]*(?:from[ \t]+(?:torch|lightning|pytorch_lightning)\b|import[ \t]+(?:[\w. \t]+,[ \t]*)*(?:torch|lightning|pytorch_lightning)\b)/m;
const MAIN = /^if[ \t]+(?:__name__[ \t]*==[ \t]*(?:"_+"|'_+')|(?:"_+"|'_+')[ \t]*==[ \t]*__name__)/m;
const LOOP = /^(?:async[ \t]+)?(?:for|while)\b/;
const TRAINS = /\.(?:backward|step)[ \t]*\(/;
const FIT = /^\S.*\.fit[ \t]*\(/;

/** The line (from 0) where a script that trains starts its work; null if it is none. */
export function trainingLine(text: string): number | null {
  const code = withoutTexts(text);
  if (!IMPORTS.test(code)) return null;
  const main = MAIN.exec(code);
  if (main) return lineOf(code, main.index);
  const lines = code.split("\n");
  const fit = /\bTrainer\b/.test(code) ? lines.findIndex((line) => FIT.test(line)) : -1;
  const loop = lines.findIndex((line, number) => LOOP.test(line) && TRAINS.test(block(lines, number)));
  const found = [fit, loop].filter((line) => line >= 0);
  return found.length ? Math.min(...found) : null;
}

function lineOf(code: string, place: number): number {
  return code.slice(0, place).split("\n").length - 1;
}

/** The indented lines under a statement at the left edge. */
function block(lines: readonly string[], start: number): string {
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => /^[^\s#)\]}]/.test(line));
  return (lines[start] ?? "") + "\n" + rest.slice(0, end < 0 ? undefined : end).join("\n");
}

const TOKEN = /#[^\n]*|("""|''')[^]*?(?:\1|$)|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?/g;

/** The code with every letter in texts and comments made a `_`, so that lines and quotes stay where they are. */
function withoutTexts(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(TOKEN, (token, triple: string | undefined) => {
    const edge = triple ? 3 : token.startsWith("#") ? 0 : 1;
    if (token.startsWith("#")) return "";
    return token.slice(0, edge) + token.slice(edge, -edge).replace(/[^\n]/g, "_") + token.slice(-edge);
  });
}
