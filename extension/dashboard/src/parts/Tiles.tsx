// Small figures with their history: what changes slowly and explains a lot. Each opens its curve.
import * as format from "../format";
import { BESIDE, kind, TILES } from "../metrics";
import type { Model } from "../model";
import { newest, Spark } from "./Spark";

export function Tiles({ model }: { model: Model }) {
  const there = TILES.filter((metric) => model.curve(metric).length > 0);
  const beside = (metric: string) => there.find((name) => name === BESIDE.get(metric));
  const shown = there.filter((metric) => !there.some((other) => beside(other) === metric));
  if (!shown.length) return null;
  return (
    <div class="tiles">
      {shown.map((metric) => {
        const { label, unit, set } = kind(metric);
        const { value } = model.curve(metric);
        const chosen = model.metric === metric;
        const other = beside(metric);
        return (
          <button
            key={metric}
            class="card tile"
            aria-pressed={chosen}
            title={chosen ? "Back to the loss" : `Show ${label} as a chart`}
            onClick={() => { model.choose(chosen ? "loss" : metric); }}
          >
            <span class="name">
              {label} <b class="figures">{format.figure(set ? (value[value.length - 1] ?? NaN) : newest(value)) + unit}</b>
              {other && <Beside name={kind(other).label} value={model.curve(other).value} />}
            </span>
            <Spark values={value} />
          </button>
        );
      })}
    </div>
  );
}

/** The newest alone: a mean over several passes would hide what the last one came to. */
function Beside({ name, value }: { name: string; value: readonly number[] }) {
  return <span class="legend" title={name}><i class="ring" aria-hidden="true" /><span class="hidden">{name} </span><b class="figures">{format.figure(value[value.length - 1] ?? NaN)}</b></span>;
}
