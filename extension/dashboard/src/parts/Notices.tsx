// What the user should know: what was not captured and why, in the place where it would have been.
import * as format from "../format";
import type { Histogram, Session } from "../protocol";

export function Notices({ session, histogram }: { session: Session; histogram: Histogram | null }) {
  const lost = histogram?.lost ?? [];
  if (!session.notices.length && !lost.length) return null;
  return (
    <section class="card" aria-label="Notices">
      <h2>Worth knowing</h2>
      <ul class="notices">
        {lost.map(({ reason, backwards }) => (
          <li key={reason}>{`${format.count(backwards)} backward calls of epoch ${histogram?.epoch ?? 0} have no per-sample losses: ${reason}.`}</li>
        ))}
        {session.notices.map(({ text, remedy, time }) => (
          <li key={text}>
            {text}
            {remedy && <span class="muted">{` ${remedy}`}</span>} <span class="muted figures">{format.clock(time)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
