// Starts the hub where none runs, in Python's own words for it: the rules of finding and starting live in one place.
import type { Execute } from "./python";

/** Longer than the hub is waited for there. */
const START_MS = 40_000;

/** A hub runs now, or an `Error` says why not. */
export async function startHub(execute: Execute, python: string, folder: string): Promise<void> {
  await execute(python, ["-m", "onthefly", "dashboard", "--no-browser", "--json"], folder, START_MS);
}
