// The time, for ages that are to be read while nothing else changes.
import { useEffect, useState } from "preact/hooks";

const EVERY_MS = 5000;

/** Seconds since 1970, renewed every few seconds. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => { setNow(Date.now()); }, EVERY_MS);
    return () => { clearInterval(timer); };
  }, []);
  return Math.max(now, Date.now()) / 1000;
}
