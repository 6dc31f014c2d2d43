// A button that asks once before it acts, in its own place.
import { useState } from "preact/hooks";

interface SureProps {
  label: string;
  /** On the button that acts. */
  yes: string;
  title: string;
  disabled?: boolean;
  onYes: () => void;
}

export function Sure({ label, yes, title, disabled = false, onYes }: SureProps) {
  const [asks, setAsks] = useState(false);
  if (!asks) return <button type="button" disabled={disabled} title={title} onClick={() => { setAsks(true); }}>{label}</button>;
  return (
    <span class="sure" role="group" aria-label={title} onKeyDown={(event) => { if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); setAsks(false); } }}>
      <button class="warning" disabled={disabled} autofocus onClick={() => { setAsks(false); onYes(); }}>{yes}</button>
      <button onClick={() => { setAsks(false); }}>No</button>
    </span>
  );
}
