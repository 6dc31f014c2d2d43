// What a person typed, read as what a command takes; else a sentence that says what is expected.

export type Read<T> = { value: T; fault?: undefined } | { value?: undefined; fault: string };

const NUMBER = /^[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** `0.01`, `1e-3`, `3E-4`, `.5`, `1_000`. */
export function number(text: string): Read<number> {
  const plain = text.trim().replaceAll("−", "-");
  if (/^[+-]?\d+,\d+$/.test(plain)) return { fault: `write ${plain.replace(",", ".")} with a point` };
  const value = NUMBER.test(plain) ? Number(plain.replaceAll("_", "")) : NaN;
  return Number.isFinite(value) ? { value } : { fault: plain ? `“${plain}” is no number: 0.01 or 1e-3` : "a number, such as 0.01 or 1e-3" };
}

/** One number, or as many as `like` has: `0.9, 0.999`. */
export function numbers(text: string, like: number | readonly number[]): Read<number | number[]> {
  if (typeof like === "number") return number(text);
  const parts = text.replace(/^\s*[[(]|[\])]\s*$/g, "").split(/[\s,;]+/).filter(Boolean);
  if (parts.length !== like.length) return { fault: `${like.length} numbers, such as ${like.map(exact).join(", ")}` };
  const found: number[] = [];
  for (const part of parts) {
    const read = number(part);
    if (read.fault !== undefined) return read;
    found.push(read.value);
  }
  return { value: found };
}

/** A whole number of at least so many; `1,000` and `1_000` are thousands, `2k` and `1e4` as well. */
export function whole(text: string, least: number, what: string): Read<number> {
  const plain = text.trim().replace(/(?<=\d)[,_](?=\d{3}(?:\D|$))/g, "").replace(/(?<=\d)\s*k$/i, "e3");
  const read = number(plain);
  if (read.fault !== undefined || !Number.isSafeInteger(read.value)) return { fault: `${what}: a whole number` };
  return read.value < least ? { fault: `${what}: at least ${least}` } : read;
}

/** More than zero. */
export function positive(text: string): Read<number> {
  const read = number(text);
  return read.fault === undefined && read.value <= 0 ? { fault: "more than 0" } : read;
}

const UNITS: Partial<Record<string, number>> = { "": 1e6, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

/** `512`, `512 MB`, `2 GB`, as bytes. */
export function bytes(text: string): Read<number> {
  const [, figure = "", unit = ""] = /^\s*([\d._]+)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const size = UNITS[unit.toLowerCase()];
  const read = number(figure);
  if (read.fault !== undefined || size === undefined) return { fault: "a size, such as 512 MB or 2 GB" };
  return { value: Math.round(read.value * size) };
}

/** What a name may be: as the hub has it for runs and checkpoints. */
export function name(text: string): Read<string> {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text.trim()) ? { value: text.trim() } : { fault: "letters, digits, - and _, at most 64" };
}

/** Of a number that can be typed again as it stands: short where rounding hides nothing that matters. */
export function exact(value: number): string {
  const short = Number(value.toPrecision(7));
  const shown = Math.abs(short - value) <= 1e-7 * Math.abs(value) ? short : value;
  const size = Math.abs(shown);
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? shown.toExponential().replace("e+", "e") : String(shown);
}

/** Of one number or several. */
export function typed(value: number | readonly number[]): string {
  return typeof value === "number" ? exact(value) : value.map(exact).join(", ");
}

/** Of bytes, to be typed again. */
export function sized(count: number): string {
  const unit = count >= 1e9 ? 1e9 : 1e6;
  return `${Number((count / unit).toPrecision(4))} ${unit === 1e9 ? "GB" : "MB"}`;
}
