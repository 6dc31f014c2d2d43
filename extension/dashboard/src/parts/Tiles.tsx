// Small figures with their history: what changes slowly and explains a lot. Each opens its curve.
import * as format from "../format";
import { kind, TILES } from "../metrics";
import type { Model } from "../model";
import { newest, Spark } from "./Spark";

export function Tiles({ model }: { model: Model }) {
  const shown = TILES.filter((metric) => model.curve(metric).length > 0);
  if (!shown.length) return null;
  return (
    <div class="tiles">
      {shown.map((metric) => {
        const { label, unit } = kind(metric);
        const { value } = model.curve(metric);
        const chosen = model.metric === metric;
        return (
          <button
            key={metric}
            class="card tile"
            aria-pressed={chosen}
            title={chosen ? "Back to the loss" : `Show ${label} as a chart`}
            onClick={() => { model.choose(chosen ? "loss" : metric); }}
          >
            <span class="name">{label} <b class="figures">{format.figure(newest(value)) + unit}</b></span>
            <Spark values={value} />
          </button>
        );
      })}
    </div>
  );
}
