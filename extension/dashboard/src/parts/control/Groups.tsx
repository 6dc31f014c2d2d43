// The parameter groups of each optimizer, every number of theirs editable in place.
import { typed } from "../../forms";
import * as format from "../../format";
import { columns, common } from "../../groups";
import type { Model } from "../../model";
import type { ParameterGroup } from "../../protocol";
import { Outcome } from "../Outcome";
import { Facts } from "../System";
import { Cell } from "./Cell";

interface GroupsProps {
  model: Model;
  groups: readonly ParameterGroup[];
  disabled: boolean;
}

export function Groups({ model, groups, disabled }: GroupsProps) {
  const names = columns(groups);
  return (
    <Facts title="Optimizers" full>
      {groups.length ? (
        <div class="scroll">
          <table class="plain edit" aria-label="Parameter groups">
            <thead><tr>{["optimizer", "group", "trains"].map((head) => <th key={head} scope="col">{head}</th>)}{names.map((name) => <th key={name} scope="col">{name}</th>)}</tr></thead>
            <tbody>
              {groups.length > 1 && <All model={model} groups={groups} names={names} disabled={disabled} />}
              {groups.map((group) => <Row key={`${group.optimizer}/${group.group}`} model={model} group={group} names={names} disabled={disabled} />)}
            </tbody>
          </table>
        </div>
      ) : <p class="empty">Known after the first optimizer step that a command finds. SGD written by hand has no groups.</p>}
      {groups.length > 0 && <p class="remark">As they were when the script was last held or a command was done. A new lr is given to the scheduler too.</p>}
      <Outcome model={model} place="set" room={groups.length > 0} />
    </Facts>
  );
}

/** One row for all: what they share. */
function All({ model, groups, names, disabled }: GroupsProps & { names: readonly string[] }) {
  return (
    <tr>
      <td>all</td><td>all</td><td>{format.count(groups.reduce((sum, { parameters }) => sum + parameters, 0))}</td>
      {names.map((name) => {
        const found = common(groups, name);
        return (
          <td key={name}>
            {found && <Cell model={model} place={`set/all/${name}`} value={found.value} like={found.like} label={`${name} of all groups`} command={{ name }} disabled={disabled} />}
          </td>
        );
      })}
    </tr>
  );
}

function Row({ model, group: { optimizer, kind, group, parameters, values }, names, disabled }: { model: Model; group: ParameterGroup; names: readonly string[]; disabled: boolean }) {
  return (
    <tr>
      <td>{`${kind} ${optimizer || ""}`.trim()}</td><td>{group}</td><td>{format.count(parameters)}</td>
      {names.map((name) => {
        const value = values[name];
        return (
          <td key={name} title={value === undefined ? "" : typed(value)}>
            {value !== undefined && (
              <Cell model={model} place={`set/${optimizer}/${group}/${name}`} value={value} like={value} label={`${name} of ${kind}, group ${group}`} command={{ name, optimizer, group }} disabled={disabled} />
            )}
          </td>
        );
      })}
    </tr>
  );
}
