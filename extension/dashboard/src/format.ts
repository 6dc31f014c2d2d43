// How figures and times are written: short, with tabular digits in mind.

export function loss(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 10000)) return value.toExponential(2);
  return value.toPrecision(4);
}

/** A value of any metric, to be read off exactly. */
export function value(number: number): string {
  return Number.isFinite(number) && Math.abs(number) >= 1000 && Math.abs(number) < 1e7 ? count(Number(number.toPrecision(5))) : loss(number);
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

/** With the noun that goes with it: "1 client", "3 clients". */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Of that many MB. */
export function memory(mb: number): string {
  return mb >= 1000 ? `${(mb / 1000).toPrecision(3)} GB` : `${mb.toFixed(0)} MB`;
}

/** What watching costs at least: the time inside our hooks in a step, and its share of the step. */
export function cost(us: number | null, stepMs: number | null): string {
  if (us === null) return "cost –";
  const time = `cost ≥ ${micro(us)}`;
  return stepMs ? `${time} · ${percent(us / 1000 / stepMs)}` : time;
}

export function micro(us: number): string {
  return us < 1000 ? `${us.toFixed(0)} µs` : `${figure(us / 1000)} ms`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** Today's time of day; of another day, the day as well. */
export function moment(seconds: number, now = Date.now()): string {
  const then = new Date(seconds * 1000);
  if (then.toDateString() === new Date(now).toDateString()) return clock(seconds);
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock(seconds).slice(0, 5)}`;
}

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

/** How long ago, in one unit: it is read at a glance, and moves seldom. */
export function age(seconds: number): string {
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 2 * 86_400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86_400)} d ago`;
}

/** Of that many bytes. */
export function size(bytes: number): string {
  if (bytes < 1e6) return bytes ? `${figure(bytes / 1000)} kB` : "–";
  return bytes < 1e9 ? `${Number((bytes / 1e6).toPrecision(3))} MB` : `${(bytes / 1e9).toPrecision(3)} GB`;
}

/** On an axis. */
export function tick(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(Number.isInteger(Math.log10(size)) ? 0 : 1);
  return Number(value.toPrecision(6)).toLocaleString("en-US", { maximumFractionDigits: 6 });
}
