// The command lines by which a session is taken up again in a terminal.
import type { CheckpointInfo, Session } from "./protocol";

const PLAIN = /^[\w@%+=:,./-]+$/;

/** A word as a POSIX shell reads it. */
export function quoted(word: string): string {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Go on from there. How an imported session was started is not recorded here, so its script has to be named. */
export function resumeCommand({ id, state, script, argv }: Session, { run, step }: Pick<CheckpointInfo, "run" | "step">): string {
  const command = `onthefly run --resume ${id}@${run}:${step}`;
  if (state !== "imported") return command;
  return [command, "--", "python", ...[script.split(/[/\\]/).pop() ?? script, ...argv].map(quoted)].join(" ");
}

/** Begin again, as a run of its own. */
export function resetCommand({ id }: Session): string {
  return `onthefly reset ${id}`;
}

/** Why no other process can go on from it now; empty: one can. */
export function obstacle({ state, resume = "" }: CheckpointInfo): string {
  if (resume) return resume;
  return { writing: "it is being written", failed: "it is not on the disk", memory: "it is not on the disk", durable: "" }[state];
}

/** The newest that another process can go on from. */
export function newest(checkpoints: readonly CheckpointInfo[]): CheckpointInfo | undefined {
  return [...checkpoints].sort((a, b) => b.time - a.time).find((checkpoint) => !obstacle(checkpoint));
}
