// The hub's own state, asked for every few seconds while somebody looks at it.
import { NotServed, why, type Hub } from "./hub";
import type { HubStatus } from "./protocol";

export const ASK_MS = 3000;
const KEPT = 120;

export class Machine {
  status: HubStatus | null = null;
  /** The newest answers' figures, oldest first. */
  cpu: number[] = [];
  rss: number[] = [];
  fault = "";

  private watchers = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  /** Ask until the returned function is called. */
  watch(): () => void {
    if (this.watchers++ === 0) {
      void this.ask();
      this.timer = setInterval(() => void this.ask(), ASK_MS);
    }
    return () => {
      if (--this.watchers === 0) clearInterval(this.timer);
    };
  }

  private async ask(): Promise<void> {
    try {
      const status = (await this.hub.get("hub")) as HubStatus;
      if (status.pid !== this.status?.pid) this.cpu = this.rss = []; // another hub
      this.status = status;
      this.cpu = [...this.cpu, status.cpu].slice(-KEPT);
      this.rss = [...this.rss, status.rss].slice(-KEPT);
      this.fault = "";
    } catch (error) {
      this.fault = why(error, "figures of itself");
      if (error instanceof NotServed && error.unknownRoute) clearInterval(this.timer);
    }
    this.changed();
  }
}
