// The map: embeddings of samples in two dimensions, with clusters; asked for when it is opened, or asked otherwise.
import { NotServed, why, type Hub } from "./hub";
import type { SampleMap, Session } from "./protocol";

export type Colour = "loss" | "class" | "cluster";

export interface Asked {
  evaluation: string;
  method: "pca" | "umap";
  clusters: number;
}

export class MapStore {
  asked: Asked = { evaluation: "", method: "pca", clusters: 8 };
  colour: Colour = "loss";
  map: SampleMap | null = null;
  fault = "";
  busy = false;
  /** Places in the map that are chosen. */
  chosen: ReadonlySet<number> = new Set();

  private session: Session | null = null;

  constructor(
    private readonly hub: Hub,
    private readonly changed: () => void,
  ) {}

  follow(session: Session): void {
    if (session.id !== this.session?.id || session.run !== this.session.run) {
      Object.assign(this, { map: null, fault: "", chosen: new Set(), asked: { ...this.asked, evaluation: "" } });
    }
    this.session = session;
  }

  ask(change: Partial<Asked> = {}): void {
    this.asked = { ...this.asked, ...change };
    void this.load();
  }

  choose(places: Iterable<number>): void {
    this.chosen = new Set(places);
    this.changed();
  }

  paint(colour: Colour): void {
    this.colour = colour;
    this.changed();
  }

  private async load(): Promise<void> {
    const { session, asked } = this;
    if (!session) return;
    this.busy = true;
    this.changed();
    const { evaluation, method, clusters } = asked;
    try {
      const found = (await this.hub.get(`sessions/${session.id}/map?run=${session.run}&method=${method}&clusters=${clusters}${evaluation ? `&evaluation=${encodeURIComponent(evaluation)}` : ""}`)) as SampleMap;
      if (this.asked === asked) [this.map, this.fault, this.chosen] = [found, "", new Set()];
    } catch (error) {
      if (this.asked === asked) {
        this.fault = why(error, "map");
        if (!(error instanceof NotServed) || method === "pca") this.map = null;
      }
    }
    this.busy = false;
    this.changed();
  }
}

/** Whether a point lies within a closed line: it does where a ray from it crosses the line an odd number of times. */
export function inside(line: readonly (readonly [number, number])[], x: number, y: number): boolean {
  let odd = false;
  let [px, py] = line[line.length - 1] ?? [0, 0];
  for (const [qx, qy] of line) {
    if (qy > y !== py > y && x < ((px - qx) * (y - qy)) / (py - qy) + qx) odd = !odd;
    [px, py] = [qx, qy];
  }
  return odd;
}
