// What can be changed while the script trains: optimizers, gradients, which parameters train, which samples are drawn.
import { controlled, LIVE } from "../../controls";
import type { TabProps } from "../Tabs";
import { Clip } from "./Clip";
import { Freeze } from "./Freeze";
import { Groups } from "./Groups";
import { Subset } from "./Subset";

export function Control({ model, session }: TabProps) {
  const { groups, clip, frozen, frozen_parameters, subset } = controlled(session);
  const disabled = model.connection !== "open" || !LIVE.has(session.state);
  return (
    <div class="facts">
      <Groups model={model} groups={groups} disabled={disabled} />
      <Clip model={model} clip={clip} disabled={disabled} />
      <Freeze model={model} patterns={frozen} count={frozen_parameters} disabled={disabled} />
      <Subset model={model} subset={subset} disabled={disabled} />
    </div>
  );
}
