// Which run is looked at: the current one, whichever that is, until a person picks another; then the way back.
import type { Node } from "../../lineage";
import type { Model } from "../../model";
import type { Session } from "../../protocol";

export function Picker({ model, session, runs }: { model: Model; session: Session; runs: readonly Node[] }) {
  const { picked } = model;
  return (
    <span class="picker">
      <select aria-label="Run that is shown" title="Curves, samples and map are of this run" value={picked || session.run} onChange={({ currentTarget }) => { model.look(currentTarget.value === session.run ? "" : currentTarget.value); }}>
        {runs.map(({ run, current }) => <option key={run} value={run}>{current && runs.length > 1 ? `${run} (current)` : run}</option>)}
      </select>
      {picked && picked !== session.run && <button title={`Show ${session.run}, with which the script goes on, and whichever follows it`} onClick={() => { model.look(); }}>{`follow ${session.run}`}</button>}
    </span>
  );
}
