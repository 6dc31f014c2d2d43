// Small figures with their history: what changes slowly and explains a lot.
import * as format from "../format";
import type { Metric, Model } from "../model";
import type { Series } from "../series";

const TILES: [Metric, string, string][] = [
  ["lr", "learning rate", ""],
  ["throughput", "samples / s", ""],
  ["step_ms", "step", " ms"],
  ["data_ms", "waiting for data", " ms"],
];

export function Tiles({ model }: { model: Model }) {
  const shown = TILES.filter(([metric]) => model.series[metric].length > 0);
  if (!shown.length) return null;
  return (
    <div class="tiles">
      {shown.map(([metric, name, unit]) => (
        <section key={metric} class="card tile" aria-label={name}>
          <h2>{name} <b class="figures">{format.figure(newest(model.series[metric])) + unit}</b></h2>
          <svg class="spark" viewBox="0 0 200 34" preserveAspectRatio="none" aria-hidden="true"><path d={path(model.series[metric])} /></svg>
        </section>
      ))}
    </div>
  );
}

/** The mean of the newest tenth of a second or so: a single step says little. */
function newest(series: Series): number {
  const tail = series.value.slice(-8).filter(Number.isFinite);
  return tail.reduce((sum, value) => sum + value, 0) / tail.length;
}

/** At most 200 points, each bucket's mean, over the range of the means. */
function path(series: Series): string {
  const size = Math.max(1, Math.ceil(series.length / 200));
  const means: number[] = [];
  for (let from = 0; from < series.length; from += size) {
    const part = series.value.slice(from, from + size).filter(Number.isFinite);
    if (part.length) means.push(part.reduce((sum, value) => sum + value, 0) / part.length);
  }
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const x = (place: number) => (means.length > 1 ? (place / (means.length - 1)) * 200 : 0);
  const y = (value: number) => (high > low ? 32 - ((value - low) / (high - low)) * 30 : 17);
  return means.map((value, place) => `${place ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}
