// The rows of a list of samples: arrows walk them, a click looks at one, boxes choose several.
import type { Selection } from "../selection";
import type { List } from "./Worst";

interface RowsProps {
  list: List;
  about: string;
  at: number;
  onMove: (at: number) => void;
  /** None: nothing can be done to them. */
  selection: Selection | null;
  onSelect: (selection: Selection) => void;
}

export function Rows({ list: { heads, rows }, about, at, onMove, selection, onSelect }: RowsProps) {
  const shown = Math.min(at, rows.length - 1);
  const samples = rows.map(({ sample }) => sample);
  const choose = (place: number, range: boolean) => {
    const sample = samples[place] ?? null;
    if (selection && sample !== null) onSelect(selection.toggle(sample, samples, range));
  };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key.toLowerCase() === "x") choose(shown, event.shiftKey);
    else if (step) {
      const next = Math.max(0, Math.min(rows.length - 1, shown + step));
      onMove(next);
      const [from, to] = [samples[shown] ?? null, samples[next] ?? null];
      if (event.shiftKey && selection && from !== null && to !== null) onSelect((selection.chosen.has(from) ? selection : selection.toggle(from, samples, false)).toggle(to, samples, true));
    } else return;
    event.preventDefault();
  };
  return (
    <div class="scroll">
      <table tabIndex={0} onKeyDown={onKey} aria-label={`The worst samples: ${about}`}>
        <thead>
          <tr>
            {selection && <th class="box"><AllBox selection={selection} samples={samples} onSelect={onSelect} /></th>}
            {heads.map(([name, title]) => <th key={name} scope="col" title={title}>{name}</th>)}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ key, cells, sample }, place) => (
            <tr key={key} class={place === shown ? "chosen" : ""} aria-selected={place === shown} onClick={(event) => { onMove(place); if (event.shiftKey) choose(place, true); }}>
              {selection && (
                <td class="box">
                  <input
                    type="checkbox" tabIndex={-1} checked={sample !== null && selection.chosen.has(sample)} disabled={sample === null}
                    aria-label={sample === null ? "No index" : `Choose sample ${sample}`} title={sample === null ? "Its index in the data set is not known: it cannot be left out or drawn by it" : "Choose it (x); with shift, all from the last one to here"}
                    onClick={(event) => { event.stopPropagation(); choose(place, event.shiftKey); }}
                  />
                </td>
              )}
              {cells.map((cell, column) => <td key={column}>{cell}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function AllBox({ selection, samples, onSelect }: { selection: Selection; samples: readonly (number | null)[]; onSelect: (selection: Selection) => void }) {
  const known = samples.filter((sample) => sample !== null);
  const count = known.filter((sample) => selection.chosen.has(sample)).length;
  return (
    <input
      type="checkbox" aria-label="Choose all of the list" title="Choose all of the list, or none" disabled={!known.length} checked={count > 0 && count === known.length}
      ref={(box) => { if (box) box.indeterminate = count > 0 && count < known.length; }} onClick={() => { onSelect(selection.all(samples)); }}
    />
  );
}
