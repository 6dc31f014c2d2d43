// How figures and times are written: short, with tabular digits in mind.

export function loss(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 10000)) return value.toExponential(2);
  return value.toPrecision(4);
}

/** A measured value: three digits are enough. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1000) return `${(value / 1000).toPrecision(3)} k`;
  return value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** What watching costs at least: the time inside our hooks in a step, and its share of the step. */
export function cost(us: number | null, stepMs: number | null): string {
  if (us === null) return "cost –";
  if (!stepMs) return `cost ≥ ${us.toFixed(0)} µs`;
  const share = us / 10 / stepMs;
  return `cost ≥ ${us.toFixed(0)} µs · ${share.toFixed(share < 10 ? 1 : 0)} %`;
}

export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}
