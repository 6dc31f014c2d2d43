// What was changed, when and by whom, newest first.
import { words } from "../changes";
import * as format from "../format";
import type { TabProps } from "./Tabs";

const SHOWN = 500;

export function Journal({ model, session }: TabProps) {
  const { entries, loaded, fault } = model.journal;
  if (fault && !entries.length) return <p class="empty">{fault}</p>;
  if (!loaded) return <p class="empty">Reading the journal…</p>;
  if (!entries.length) return <p class="empty">Nothing was changed in this session. What you change is written down here, and can be made again in a fresh run.</p>;
  const runs = entries.some(({ run }) => run !== session.run);
  return (
    <>
      <div class="scroll">
        <table class="plain" aria-label="Journal">
          <thead><tr>{["time", "step", "epoch", ...(runs ? ["run"] : []), "what", "by"].map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
          <tbody>
            {entries.slice(-SHOWN).reverse().map((entry, place) => (
              <tr key={entries.length - place}>
                <td>{format.moment(entry.time)}</td>
                <td><button class="quiet step" aria-pressed={model.pointed === entry.step} title="Mark it on the chart" onClick={() => { model.point(entry.step); }}>{format.count(entry.step)}</button></td>
                <td>{entry.epoch}</td>
                {runs && <td>{entry.run}</td>}
                <td class="text">{words(entry)}</td>
                <td>{entry.by || "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="remark">{entries.length > SHOWN ? `The newest ${SHOWN} of ${format.count(entries.length)}. ` : ""}{`All of it: onthefly journal ${session.id} -o FILE; the same changes in a fresh run: --replay FILE.`}</p>
    </>
  );
}
