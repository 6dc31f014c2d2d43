// What is under control in a session, with nothing missing; and whether anything can be done to it now.
import type { Controls, Session } from "./protocol";

export type Controlled = Required<Controls>;

const NOTHING: Controlled = {
  pauses: [], groups: [], clip: "", frozen: [], frozen_parameters: 0, subset: null, checkpoints: [], keep: {}, watches: [],
  findings: [], trial: null, progress: null, evaluations: 0, runs: [],
};

export function controlled({ controls }: Session): Controlled {
  return { ...NOTHING, ...controls };
}

export const LIVE: ReadonlySet<string> = new Set(["starting", "running", "pausing", "paused"]);

/** The script is through and its process is kept (`--hold`): to resume is to let it end. */
export function held({ state, reason }: Session): boolean {
  return state === "paused" && reason.startsWith("the script has finished");
}
