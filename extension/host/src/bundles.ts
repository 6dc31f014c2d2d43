// Sessions as files: out, in, and deleted. The bytes go past the editor's windows, from the hub to the disk and back.
import * as fs from "node:fs";
import * as path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream as Bytes } from "node:stream/web";
import type { ExportRequest, Session } from "../../dashboard/src/protocol";
import { newest, resumeCommand } from "../../dashboard/src/resumes";
import { refusal, said } from "./answers";
import type { Editor } from "./editor";
import { live, type Sessions } from "./sessions";

const KINDS = { "OnTheFly session": ["otf"] };
const ALL: ExportRequest = {};
const CHOICES: { label: string; description: string; value: ExportRequest }[] = [
  { label: "Everything", description: "records, log, script, all checkpoints", value: ALL },
  { label: "With the newest checkpoint", description: "records, log, script", value: { checkpoints: ["newest"] } },
  { label: "Without checkpoints", description: "to look at: records, log, script", value: { checkpoints: ["none"] } },
  { label: "Without log and script", description: "records and all checkpoints", value: { logs: false, script: false } },
];

export class Bundles {
  constructor(
    private readonly editor: Editor,
    private readonly sessions: Sessions,
    private readonly show: (session: string) => void,
  ) {}

  /** What is asked for first: how much of it. */
  async export(session: Session): Promise<void> {
    const wanted = await this.editor.choose(`Export ${session.name}`, CHOICES);
    if (wanted) await this.save(session.id, wanted);
  }

  /** False where no file was named. */
  async save(session: string, wanted: ExportRequest): Promise<boolean> {
    const place = await this.editor.whereTo(`${session}.otf`, KINDS);
    if (!place) return false;
    const answer = await this.sessions.connection.download(`sessions/${session}/export`, wanted);
    if (!answer.ok || !answer.body) throw new Error(said(await answer.arrayBuffer()));
    const beside = path.join(path.dirname(place), `.tmp-${process.pid}-${path.basename(place)}`);
    try {
      await pipeline(Readable.fromWeb(answer.body as Bytes<Uint8Array>), fs.createWriteStream(beside, { mode: 0o600 }));
      await fs.promises.rename(beside, place);
    } finally {
      await fs.promises.rm(beside, { force: true });
    }
    await this.editor.say("info", `${place}: ${(await fs.promises.stat(place)).size.toLocaleString("en-US")} bytes.`);
    return true;
  }

  /** It is shown then. What has to be trusted first is asked for. */
  async import(): Promise<void> {
    const place = await this.editor.whereFrom("Import a Session", KINDS);
    if (!place) return;
    let { ok, body } = await this.send(place, "");
    if (!ok && refusal(body).code === "untrusted") {
      const detail = `${refusal(body).message}. Nothing is run by the import; what loads these parts later runs what is in them.`;
      if (!(await this.editor.sure(`Do you trust who made ${path.basename(place)}?`, detail, "I Trust It: Import"))) return;
      ({ ok, body } = await this.send(place, "?trust=yes"));
    }
    if (!ok) throw new Error(said(body));
    this.show((JSON.parse(new TextDecoder().decode(body)) as Session).id);
  }

  async remove(session: Session): Promise<void> {
    if (live(session)) {
      await this.editor.say("warning", `${session.name} is ${session.state}: stop it first.`);
      return;
    }
    const detail = `Session ${session.id}: its records, log and checkpoints. Files that the script itself wrote stay.`;
    if (!(await this.editor.sure(`Delete ${session.name} for good?`, detail, "Delete"))) return;
    const { ok, body } = await this.sessions.connection.ask(`sessions/${session.id}`, undefined, "DELETE");
    if (!ok) throw new Error(said(body));
    this.sessions.forget(session.id);
  }

  /** Of its newest checkpoint that another process can go on from. */
  async copyResume(session: Session): Promise<void> {
    const checkpoint = newest(session.controls?.checkpoints ?? []);
    if (!checkpoint) {
      await this.editor.say("warning", `${session.name} has no checkpoint that another process can go on from: the tab Checkpoints of its dashboard says why.`);
      return;
    }
    const command = resumeCommand(session, checkpoint);
    await this.editor.copy(command);
    await this.editor.say("info", `In the clipboard: ${command}`);
  }

  private send(place: string, query: string) {
    return this.sessions.connection.upload(`import${query}`, Readable.toWeb(fs.createReadStream(place)) as ReadableStream<Uint8Array>);
  }
}
