// A button with a card under it. Escape and a click beside it close it; the focus goes in, and back.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface MenuProps {
  /** Of the card. */
  label: string;
  button: ComponentChildren;
  title: string;
  kind?: string;
  disabled?: boolean;
  children: (close: () => void) => ComponentChildren;
}

export function Menu({ label, button, title, kind = "", disabled = false, children }: MenuProps) {
  const [open, setOpen] = useState(false);
  const place = useRef<HTMLSpanElement>(null);
  const close = () => {
    setOpen(false);
    place.current?.querySelector("button")?.focus();
  };
  useEffect(() => {
    if (!open) return undefined;
    const panel = place.current?.querySelector(".panel");
    (panel?.querySelector<HTMLElement>("[data-first]") ?? panel?.querySelector<HTMLElement>("input, button"))?.focus();
    const beside = ({ target }: Event) => {
      if (target instanceof Node && target.isConnected && !place.current?.contains(target)) setOpen(false);
    };
    document.addEventListener("pointerdown", beside);
    return () => { document.removeEventListener("pointerdown", beside); };
  }, [open]);
  return (
    <span ref={place} class="menu">
      <button class={kind} aria-haspopup="dialog" aria-expanded={open} aria-label={label} title={title} disabled={disabled} onClick={() => { setOpen(!open); }}>
        {button}
      </button>
      {open && (
        <div class="panel card" role="dialog" aria-label={label} onKeyDown={(event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } }}>
          {children(close)}
        </div>
      )}
    </span>
  );
}
