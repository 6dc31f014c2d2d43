// Commands to the shown session: where on the page each was asked, and what became of it. An answer belongs to the
// control that asked; what a command was is never guessed from what came later.
import { NotServed, type Hub } from "./hub";
import type * as wire from "./protocol";

/** What each command takes. */
export interface Arguments {
  pause: wire.Pause;
  resume: wire.Resume;
  step: wire.Step;
  cancel: wire.Cancel;
  stop: wire.Stop;
  set: wire.Set;
  clip: wire.Clip;
  freeze: wire.Freeze;
  unfreeze: wire.Unfreeze;
  subset: wire.Subset;
  checkpoint: wire.Checkpoint;
  keep: wire.Keep;
  drop: wire.Drop;
  rewind: wire.Rewind;
  reset: wire.Reset;
  trial: wire.Trial;
  choose: wire.Choose;
  watch: wire.Watch;
  diagnose: wire.Diagnose;
  show: wire.Show;
  test: wire.Test;
  scan: wire.Scan;
  health: wire.Health;
  fork: wire.Fork;
  switch: wire.Switch;
  compare: wire.Compare;
  merge: wire.Merge;
}

export type Name = keyof Arguments;

/** A command with its arguments. */
export type Command = { [Each in Name]: { name: Each; args: Arguments[Each] } }[Name];

export interface Asked {
  id: string;
  session: string;
  /** Of the control: `bar`, `set/0/1/lr`, ... */
  place: string;
  command: Command;
  /** `accepted`: the hub has it, the script not yet; `wrong`: it was not done, or nobody knows. */
  state: "sent" | "accepted" | "applied" | "wrong";
  answer: wire.Answer | null;
  reason: string;
  remedy: string;
}

const AGAIN_MS = 2000;

export const UNKNOWN = "the connection broke before the answer came: look whether it was done";

function open({ state }: Asked): boolean {
  return state === "sent" || state === "accepted";
}

export class CommandStore {
  /** By place, the newest last. */
  private readonly asked = new Map<string, Asked>();
  private session = "";

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** Another session is shown: what was asked of the one before is of no use here. */
  follow(session: string): void {
    if (session === this.session) return;
    this.session = session;
    this.asked.clear();
  }

  /** The newest thing that was asked at this place, or at one under it (`set` has `set/0/1/lr`). */
  at(place: string): Asked | null {
    let found: Asked | null = null;
    for (const asked of this.asked.values()) if (asked.place === place || asked.place.startsWith(`${place}/`)) found = asked;
    return found;
  }

  /** What is under way at this very place. */
  pending(place: string): Asked | null {
    const asked = this.asked.get(place);
    return asked && open(asked) ? asked : null;
  }

  /** One at a time from each place: false if the one before has no answer yet. */
  send(place: string, command: Command): boolean {
    if (!this.session || this.pending(place)) return false;
    const asked: Asked = { id: crypto.randomUUID(), session: this.session, place, command, state: "sent", answer: null, reason: "", remedy: "" };
    const { id, session } = asked;
    const args = Object.fromEntries(Object.entries(command.args).filter(([, value]) => value !== undefined));
    if (!this.hub.send({ type: "command", session, id, name: command.name, args, by: "dashboard" })) {
      asked.state = "wrong";
      asked.reason = "not sent: the hub is not connected";
    }
    this.asked.delete(place); // the newest stands last
    this.asked.set(place, asked);
    this.changed();
    return true;
  }

  /** Take an answer; false if it is of nothing that was asked here. */
  settle(answer: wire.Answer): boolean {
    const asked = this.find(answer.id);
    if (!asked || !open(asked)) return false;
    asked.answer = answer;
    if (answer.status === "accepted") asked.state = "accepted"; // its end comes as another answer
    else if (answer.status === "applied") asked.state = "applied";
    else {
      asked.state = "wrong";
      asked.reason = `${answer.status}: ${answer.reason ?? "no reason was given"}`;
      asked.remedy = answer.remedy ?? "";
    }
    return true;
  }

  /** The hub did not understand a message; false if it was no command of here. */
  fail(id: string, { message, remedy = "" }: wire.Fault): boolean {
    const asked = this.find(id);
    if (!asked) return false;
    Object.assign(asked, { state: "wrong", reason: message, remedy });
    return true;
  }

  /** The refusal was read. */
  dismiss(place: string): void {
    if (!this.pending(place)) this.asked.delete(place);
    this.changed();
  }

  /**
   * Connected again: what has no answer yet is asked for by its number. It is never sent a second time: another hub than
   * the one that had it would do it twice.
   */
  async reconnected(): Promise<void> {
    const waiting = [...this.asked.values()].filter(open);
    await Promise.all(waiting.map((asked) => this.recover(asked)));
    if (waiting.length) this.changed();
  }

  private async recover(asked: Asked): Promise<void> {
    const n = asked.answer?.n;
    try {
      const answer = n === undefined ? null : ((await this.hub.get(`sessions/${asked.session}/commands/${n}`)) as wire.Answer);
      if (!open(asked)) return; // answered meanwhile
      if (answer?.id !== asked.id) Object.assign(asked, { state: "wrong", reason: UNKNOWN });
      else if (answer.status === "accepted") setTimeout(() => void this.reconnected(), AGAIN_MS);
      else this.settle(answer);
    } catch (error) {
      // Not served: this hub knows no such command. Else it is gone again, and asked when it is back.
      if (error instanceof NotServed && open(asked)) Object.assign(asked, { state: "wrong", reason: UNKNOWN });
    }
  }

  private find(id: string): Asked | undefined {
    return [...this.asked.values()].find((asked) => asked.id === id);
  }
}
