// A button that copies a command for a terminal; where the browser does not let it, the command stands there to be taken.
import { useEffect, useState } from "preact/hooks";
import { copy } from "../clipboard";

const TOLD_MS = 2500;

export function Copy({ text, label }: { text: string; label: string }) {
  const [told, setTold] = useState<"" | "copied" | "denied">("");
  useEffect(() => {
    if (told !== "copied") return undefined;
    const timer = setTimeout(() => { setTold(""); }, TOLD_MS);
    return () => { clearTimeout(timer); };
  }, [told]);
  const act = async () => { setTold((await copy(text)) ? "copied" : "denied"); };
  return (
    <>
      <button type="button" title={text} onClick={() => void act()}>{told === "copied" ? "Copied" : label}</button>
      <span class="hidden" role="status">{told === "copied" ? `Copied: ${text}` : ""}</span>
      {told === "denied" && <code class="taken">{text}</code>}
    </>
  );
}
