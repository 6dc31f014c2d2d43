// Which samples are drawn; they are chosen in the list of the worst samples.
import * as format from "../../format";
import type { Model } from "../../model";
import type { SubsetInfo } from "../../protocol";
import { Outcome } from "../Outcome";
import { Facts } from "../System";

interface SubsetProps {
  model: Model;
  subset: SubsetInfo | null;
  disabled: boolean;
}

const SAID: Record<SubsetInfo["mode"], string> = { exclude: "left out", include: "the only ones that are drawn", weights: "drawn by their weights" };

export function Subset({ model, subset, disabled }: SubsetProps) {
  const all = () => { model.command("all", { name: "subset", args: { mode: "all" } }); };
  return (
    <Facts title="Samples that are drawn">
      <div class="field">
        <small>{subset ? drawn(subset) : "all, as the script draws them. Choose some in the list of the worst samples."}</small>
        {subset && <button disabled={disabled || model.commands.pending("all") !== null} onClick={all}>Draw all again</button>}
        <div class="under"><Outcome model={model} place="all" room /></div>
      </div>
    </Facts>
  );
}

/** Where it holds from: batches of before were under way in the workers. */
export function drawn({ mode, count, loader, since }: SubsetInfo): string {
  return `${format.counted(count, "sample is", "samples are")} ${SAID[mode]} (${loader || "the training loader"}, from backward call ${format.count(since)} on)`;
}
