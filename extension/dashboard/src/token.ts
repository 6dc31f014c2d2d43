// The hub's token. In a tab it comes in the address's fragment (which is never sent anywhere), is kept for this tab, and
// leaves the address at once, so that it is in no history and no copied link. In a notebook's frame the address holds a
// pass, which is worth the token once: a saved notebook gives nothing away, and nothing is stored (frames of other sites
// may not).
import type { Admitted, Pass } from "./protocol";

const KEY = "onthefly.token";

export interface Login {
  token: string | null;
  /** In a notebook's frame: pid of the kernel, 0 if the pass was not taken. */
  kernel: number | null;
}

export async function login(location: Location, history: History, storage: () => Storage): Promise<Login> {
  const pass = new URLSearchParams(location.search).get("pass");
  if (pass === null) return { token: takeToken(location, history, storage()), kernel: null };
  history.replaceState(null, "", location.pathname);
  const body = JSON.stringify({ text: pass } satisfies Pass);
  const answer = await fetch(new URL("./api/v1/token", location.href), { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  if (!answer?.ok) return { token: null, kernel: 0 };
  const { token, pid } = (await answer.json()) as Admitted;
  return { token, kernel: pid };
}

export function takeToken(location: Location, history: History, storage: Storage): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    storage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given ?? storage.getItem(KEY);
}
