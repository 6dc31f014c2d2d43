// What the watchdogs found, newest first; a click on a step marks it on the chart.
import * as format from "../../format";
import type { Model } from "../../model";
import type { Finding } from "../../protocol";

export function Findings({ model, findings }: { model: Model; findings: readonly Finding[] }) {
  if (!findings.length) return <p class="empty">Nothing was found so far.</p>;
  return (
    <div class="scroll">
      <table class="plain" aria-label="Findings">
        <thead><tr>{["time", "step", "watchdog", "what", "flight record"].map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
        <tbody>
          {[...findings].reverse().map((finding, place) => (
            <tr key={findings.length - place}>
              <td>{format.moment(finding.time)}</td>
              <td><button class="quiet step" aria-pressed={model.pointed === finding.step} title="Mark it on the chart" onClick={() => { model.point(finding.step); }}>{format.count(finding.step)}</button></td>
              <td>{finding.alarm}</td>
              <td class="text">{finding.text}</td>
              <td>{finding.flight || "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
