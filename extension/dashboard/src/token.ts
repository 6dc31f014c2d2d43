// The hub's token: comes in the address's fragment (which is never sent anywhere), is kept for this tab, and leaves the
// address at once, so that it is in no history and no copied link.
const KEY = "onthefly.token";

export function takeToken(location: Location, history: History, storage: Storage): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    storage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given ?? storage.getItem(KEY);
}
