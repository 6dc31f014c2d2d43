// What the hub answers where it does not do what was asked.
import type { ErrorAnswer, Fault } from "../../dashboard/src/protocol";

/** Its reason; an answer that is none says so. */
export function refusal(body: ArrayBuffer): Fault {
  try {
    return (JSON.parse(new TextDecoder().decode(body)) as ErrorAnswer).error;
  } catch {
    return { code: "", message: "the hub did not say why" };
  }
}

/** For a person: with the remedy. */
export function said(body: ArrayBuffer): string {
  const { message, remedy } = refusal(body);
  return [message, remedy].filter(Boolean).join(": ");
}
