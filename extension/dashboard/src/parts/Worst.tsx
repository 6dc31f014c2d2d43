// The samples with the highest loss of this epoch, with their true index in the dataset.
import { useState } from "preact/hooks";
import * as format from "../format";
import type { Sample } from "../model";
import type { Histogram } from "../protocol";

export function Worst({ samples, histogram }: { samples: Sample[]; histogram: Histogram | null }) {
  const [chosen, setChosen] = useState(0);
  if (!samples.length) return null;
  const at = Math.min(chosen, samples.length - 1);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    setChosen(Math.max(0, Math.min(samples.length - 1, at + step)));
  };
  const sample = samples[at];
  return (
    <section class="card" aria-label="Worst samples">
      <h2>Worst samples <small>{`epoch ${histogram?.epoch ?? 0} · ↑ ↓ to move`}</small></h2>
      <div class="scroll">
        <table tabIndex={0} onKeyDown={move} aria-label="The samples with the highest loss of this epoch">
          <thead>
            <tr><th scope="col">index</th><th scope="col">step</th><th scope="col">row</th><th scope="col">loss</th><th scope="col" /></tr>
          </thead>
          <tbody>
            {samples.map((row, place) => (
              <tr
                key={`${row.backward}-${row.position}`}
                class={place === at ? "chosen" : ""}
                aria-selected={place === at}
                onClick={() => { setChosen(place); }}
              >
                <td>{row.sample ?? "–"}</td>
                <td>{format.count(row.step)}</td>
                <td>{row.position}</td>
                <td><strong>{format.loss(row.loss)}</strong></td>
                <td>{row.certificate !== "exact" && <span class="tag">{row.certificate}</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {sample && <p class="detail" aria-live="polite">{describe(sample)}</p>}
    </section>
  );
}

function describe(sample: Sample): string {
  const index = sample.sample === null ? "A sample without a proven index" : `Sample ${sample.sample} of the dataset`;
  return `${index}: loss ${format.loss(sample.loss)} in backward call ${format.count(sample.backward)}, row ${sample.position} of its batch; ${sample.certificate}, identity ${sample.identity}.`;
}
