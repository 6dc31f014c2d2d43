// One watchdog: what it watches and costs, what it does, and its parameters.
import { exact, number } from "../../forms";
import * as format from "../../format";
import type { Model } from "../../model";
import type { Watch, WatchInfo } from "../../protocol";
import { Parameter } from "./Parameter";

const ACTIONS: [Watch["action"], string][] = [["off", "off"], ["log", "log it"], ["pause", "pause"], ["rewind", "go back and pause"]];

export function WatchRow({ model, watch, disabled }: { model: Model; watch: WatchInfo; disabled: boolean }) {
  const { alarm, action, parameters = {}, found = 0 } = watch;
  const place = `watch/${alarm}`;
  const asked = model.commands.pending(place)?.command;
  const set = (change: Pick<Watch, "action"> & Partial<Watch>) => { model.command(place, { name: "watch", args: { alarm, ...change } }); };
  return (
    <tr>
      <td class="text"><strong>{alarm}</strong> <small>{watch.text}</small></td>
      <td>{watch.cost}</td>
      <td>
        <select
          aria-label={`What ${alarm} does`} disabled={disabled || asked !== undefined} value={asked?.name === "watch" ? asked.args.action : action}
          onChange={({ currentTarget }) => {
            const chosen = ACTIONS[currentTarget.selectedIndex]?.[0] ?? action;
            currentTarget.value = action; // until the script has said so
            set({ action: chosen });
          }}
        >
          {ACTIONS.map(([name, label]) => <option key={name} value={name}>{label}</option>)}
        </select>
      </td>
      <td class="text">
        {Object.entries(parameters).map(([name, value]) => (
          <Parameter key={name} label={name} value={exact(value)} disabled={disabled || asked !== undefined} read={number} onApply={(given) => { set({ action, parameters: { ...parameters, [name]: given } }); }} />
        ))}
      </td>
      <td class={found ? "tag" : ""}>{format.count(found)}</td>
    </tr>
  );
}
