// What the user should know: what was not captured and why, in the place where it would have been, with what to do.
import * as format from "../format";
import type { Histogram, Session } from "../protocol";
import { remedy } from "../remedies";

export function Notices({ session, histogram }: { session: Session; histogram: Histogram | null }) {
  const counted = histogram?.lost ?? [];
  // A notice of a reason that is counted says nothing new, and neither does the one that stands for an empty histogram.
  const others = session.notices.filter(({ text }) => !counted.some(({ reason }) => text.endsWith(`: ${reason}`)));
  const lost = histogram?.count ? counted : counted.slice(1);
  if (!others.length && !lost.length) return null;
  return (
    <section class="card" aria-label="Worth knowing">
      <h2>Worth knowing</h2>
      <ul class="notices">
        {lost.map(({ reason, backwards }) => (
          <li key={reason}>
            {`${histogram?.phase === "train" ? format.counted(backwards, "backward call") : format.counted(backwards, "batch", "batches")} of epoch ${histogram?.epoch ?? 0} without losses of samples: ${reason}.`}
            <Remedy text={remedy(reason)} />
          </li>
        ))}
        {others.map(({ text, remedy: said, time, rank }) => (
          <li key={`${rank} ${text}`}>
            {text} <span class="muted figures">{format.moment(time)}</span>
            <Remedy text={said || remedy(text)} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Remedy({ text }: { text: string }) {
  return text ? <p class="remark">{text}</p> : null;
}
