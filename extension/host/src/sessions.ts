// The sessions that the hub knows, as its events tell of them, and commands to them. Parts of the editor subscribe.
import { randomUUID } from "node:crypto";
import type { Answer, HubEvent, Session } from "../../dashboard/src/protocol";
import { Connection } from "./connection";
import type { Found } from "./runtime";

const ANSWER_MS = 60_000;
const LIVE: ReadonlySet<string> = new Set(["starting", "running", "pausing", "paused"]);

export function live({ state }: Session): boolean {
  return LIVE.has(state);
}

/** What became of a command, for a person; `fine` if it was done. */
export interface Outcome {
  fine: boolean;
  text: string;
}

export class Sessions {
  /** Newest start first. */
  all: Session[] = [];
  readonly connection: Connection;

  private readonly listeners = new Set<() => void>();
  private readonly enders = new Set<(session: Session) => void>();
  private readonly waiting = new Map<string, (answer: Pick<Answer, "status" | "reason" | "remedy">) => void>();
  private known = false;

  constructor(find: () => Found) {
    this.connection = new Connection(find, {
      state: () => { this.changed(); },
      text: (text) => { this.event(JSON.parse(text) as HubEvent); },
      columns: () => undefined,
    });
  }

  get connected(): boolean {
    return this.connection.open;
  }

  onChange(listener: () => void): void {
    this.listeners.add(listener);
  }

  /** Called once for each session that was seen alive and is not any more. */
  onEnd(listener: (session: Session) => void): void {
    this.enders.add(listener);
  }

  find(id: string): Session | undefined {
    return this.all.find((session) => session.id === id);
  }

  /** It was deleted: the hub tells nobody of that. */
  forget(id: string): void {
    this.all = this.all.filter((session) => session.id !== id);
    this.changed();
  }

  /** Send a command; resolves with what became of it, in a minute at most. */
  command(session: Session, name: string): Promise<Outcome> {
    const id = randomUUID();
    const message = { type: "command", session: session.id, id, name, by: "VS Code" };
    return new Promise((resolve) => {
      const settle = ({ status, reason, remedy }: Pick<Answer, "status" | "reason" | "remedy">) => {
        clearTimeout(timer);
        this.waiting.delete(id);
        const words = [reason, remedy].filter(Boolean).join(": ");
        resolve({ fine: status === "applied", text: `${name} of ${session.name} ${status}${words && `: ${words}`}` });
      };
      const timer = setTimeout(() => { settle({ status: "accepted", reason: "the script has not reached its next optimizer step yet" }); }, ANSWER_MS);
      this.waiting.set(id, settle);
      if (!this.connection.send(JSON.stringify(message))) settle({ status: "failed", reason: "the hub is not connected" });
    });
  }

  private event(event: HubEvent): void {
    if (event.type === "snapshot") this.replace(event.sessions);
    else if (event.type === "session") this.replace([event.session, ...this.all.filter(({ id }) => id !== event.session.id)]);
    else if (event.type === "answer" && event.answer.status !== "accepted") this.waiting.get(event.answer.id)?.(event.answer);
    else if (event.type === "error" && event.id) this.waiting.get(event.id)?.({ status: "refused", reason: event.error.message, remedy: event.error.remedy ?? "" });
  }

  private replace(sessions: Session[]): void {
    const ended = sessions.filter((session) => !live(session) && this.all.some((before) => before.id === session.id && live(before)));
    this.all = [...sessions].sort((a, b) => b.started - a.started);
    this.known = true;
    this.changed();
    for (const session of ended) for (const ender of this.enders) ender(session);
  }

  private changed(): void {
    if (!this.known && !this.connected) return;
    for (const listener of this.listeners) listener();
  }
}
