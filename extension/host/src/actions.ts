// What the commands do to sessions: which session is meant, and what became of it.
import type { Session } from "../../dashboard/src/protocol";
import * as format from "../../dashboard/src/format";
import { resetCommand } from "../../dashboard/src/resumes";
import type { Editor } from "./editor";
import { live, type Sessions } from "./sessions";
import { foremost } from "./status";

const COPY = "Copy Command";

export class Actions {
  constructor(
    private readonly editor: Editor,
    private readonly sessions: Sessions,
  ) {}

  async pause(given: unknown): Promise<void> {
    await this.send("pause", given, ({ state }) => state === "running" || state === "starting");
  }

  async resume(given: unknown): Promise<void> {
    await this.send("resume", given, ({ state }) => state === "paused" || state === "pausing");
  }

  /** One step, and hold again. */
  async step(given: unknown): Promise<void> {
    await this.send("step", given, live);
  }

  /** Keep the state of this moment. */
  async checkpoint(given: unknown): Promise<void> {
    await this.send("checkpoint", given, live);
  }

  /** Back to the first step; where that is refused, the command that does it from a terminal is offered. */
  async reset(given: unknown): Promise<void> {
    const session = await this.session("reset", given, ({ state }) => state !== "imported");
    if (!session) return;
    const command = resetCommand(session);
    if (!live(session)) {
      await this.offer(`${session.name} is ${session.state}: it begins again from a terminal, as a run of its own.`, command);
      return;
    }
    const detail = "It goes back to its first step, in place, as a run of its own. What was trained since stays in the records.";
    if (!(await this.editor.sure(`Reset ${session.name}?`, detail, "Reset"))) return;
    const { fine, text } = await this.sessions.command(session, "reset");
    if (!fine) await this.offer(`${text}.`, command);
  }

  async stop(given: unknown): Promise<void> {
    const session = await this.session("stop", given, live);
    if (!session) return;
    const detail = "It ends after its current step, and its own clean-up runs. Its records stay.";
    if (await this.editor.sure(`Stop ${session.name}?`, detail, "Stop the Script")) await this.tell(session, "stop");
  }

  /** What the click in the status bar means. */
  async toggle(): Promise<void> {
    const session = foremost(this.sessions, this.editor);
    if (session?.state === "paused") await this.tell(session, "resume");
    else if (session && (session.state === "running" || session.state === "starting")) await this.tell(session, "pause");
    else await this.editor.say("info", "No script runs under OnTheFly that could be paused.");
  }

  /** The session of a row of the view; else the one there is, or the chosen one of several. */
  async session(purpose: string, given: unknown, fits: (session: Session) => boolean): Promise<Session | undefined> {
    const id = (given as { id?: unknown } | null | undefined)?.id;
    if (typeof id === "string") {
      const session = this.sessions.find(id);
      if (!session) await this.editor.say("info", "That session is not there any more.");
      return session;
    }
    const found = this.sessions.all.filter(fits);
    if (found.length <= 1) {
      if (!found.length) await this.editor.say("info", this.sessions.connected ? `There is no session to ${purpose}.` : `There is no session to ${purpose}: no hub is running. Run a script with OnTheFly first.`);
      return found[0];
    }
    return this.editor.choose(`Which session to ${purpose}?`, found.map((session) => ({
      label: session.name, value: session, description: `${session.state} · step ${format.count(session.step)} · ${format.moment(session.started)} · ${session.id}`,
    })));
  }

  private async send(name: string, given: unknown, fits: (session: Session) => boolean): Promise<void> {
    const session = await this.session(name, given, fits);
    if (session) await this.tell(session, name);
  }

  private async offer(text: string, command: string): Promise<void> {
    if ((await this.editor.say("warning", text, COPY)) === COPY) await this.editor.copy(command);
  }

  private async tell(session: Session, name: string): Promise<void> {
    const { fine, text } = await this.sessions.command(session, name);
    if (!fine) await this.editor.say("warning", `${text}.`);
  }
}
