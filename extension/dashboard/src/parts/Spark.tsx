// A small curve without axes, beside its newest value.

const [WIDTH, HEIGHT] = [200, 34];
/** Means of equal values differ by rounding: what varies by less than this share is flat. */
const FLAT = 1e-9;

export function Spark({ values }: { values: readonly number[] }) {
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={path(values)} />
    </svg>
  );
}

/** The mean of the newest few: a single step says little. */
export function newest(values: readonly number[]): number {
  const tail = values.slice(-8).filter(Number.isFinite);
  return tail.reduce((sum, value) => sum + value, 0) / tail.length;
}

/** At most as many points as it is wide, each bucket's mean, over the range of the means. */
function path(values: readonly number[]): string {
  const size = Math.max(1, Math.ceil(values.length / WIDTH));
  const means: number[] = [];
  for (let from = 0; from < values.length; from += size) {
    const part = values.slice(from, from + size).filter(Number.isFinite);
    if (part.length) means.push(part.reduce((sum, value) => sum + value, 0) / part.length);
  }
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const x = (place: number) => (means.length > 1 ? (place / (means.length - 1)) * WIDTH : 0);
  const y = (value: number) => (high - low > FLAT * Math.max(Math.abs(high), Math.abs(low)) ? HEIGHT - 2 - ((value - low) / (high - low)) * (HEIGHT - 4) : HEIGHT / 2);
  return means.map((value, place) => `${place ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}
