// The proofs of resumes: the first steps of a process that went on, compared bit by bit with those recorded before.
import * as format from "../../format";
import type { Model } from "../../model";
import type { ReceiptInfo } from "../../protocol";
import { Facts } from "../System";

const HEADS = ["run", "from", "first steps, taken again", "when"];

export function Receipts({ model, receipts }: { model: Model; receipts: readonly ReceiptInfo[] }) {
  if (!receipts.length) return null;
  return (
    <Facts title="Resumes">
      <div class="scroll">
        <table class="plain two" aria-label="Resumes">
          <thead><tr>{HEADS.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
          <tbody>
            {[...receipts].reverse().map((receipt) => (
              <tr key={receipt.run}>
                <td><strong>{receipt.run}</strong></td>
                <td>
                  {receipt.from_run}{" "}
                  <button class="quiet step" title="Mark it on the chart" onClick={() => { model.point(receipt.from_step); }}>{format.count(receipt.from_step)}</button>
                </td>
                <td class="text"><Proof receipt={receipt} /></td>
                <td>{format.moment(receipt.time)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Facts>
  );
}

function Proof({ receipt: { text, equal, compared, first_difference: difference = "" } }: { receipt: ReceiptInfo }) {
  const differs = difference !== "" || equal < compared;
  return (
    <>
      <span class={differs ? "tag" : ""}>{text}</span>
      {difference && !text.includes(difference) && <small>{`first: ${difference}`}</small>}
    </>
  );
}
