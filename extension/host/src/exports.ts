// A session's records into a file, as the hub renders them.
import type { Session } from "../../dashboard/src/protocol";
import { said } from "./answers";
import type { Editor } from "./editor";
import type { Sessions } from "./sessions";

const TABLES = [
  { label: "Samples", description: "each sample's loss, with its index and certificate", value: "samples" },
  { label: "Metrics", description: "loss, learning rates, throughput and the script's own, by step", value: "metrics" },
  { label: "Backward calls", description: "the loss of each, and why samples were not captured", value: "backwards" },
];
const KINDS = { Parquet: ["parquet"], CSV: ["csv"], JSON: ["json"] };
const FORMATS: ReadonlySet<string> = new Set(Object.values(KINDS).flat());

export async function exportRecords(session: Session, sessions: Sessions, editor: Editor): Promise<void> {
  const table = await editor.choose(`Records of ${session.name}`, TABLES);
  if (!table) return;
  const place = await editor.whereTo(`${session.id}-${table}.parquet`, KINDS);
  if (!place) return;
  const form = /\.([a-z]+)$/i.exec(place)?.[1]?.toLowerCase() ?? "";
  if (!FORMATS.has(form)) {
    await editor.say("error", `The name must end in .parquet, .csv or .json: ${place}`);
    return;
  }
  const { ok, body } = await sessions.connection.ask(`sessions/${session.id}/${table}?format=${form}`);
  if (!ok) throw new Error(said(body));
  await editor.write(place, new Uint8Array(body));
  await editor.say("info", `${place}: ${body.byteLength.toLocaleString("en-US")} bytes.`);
}
