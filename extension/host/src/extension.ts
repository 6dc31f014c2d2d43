// What the editor loads.
import type * as vscode from "vscode";
import { OnTheFly } from "./main";
import { execute } from "./python";
import { VsCode } from "./vscode";

export function activate(context: vscode.ExtensionContext): void {
  const extension = new OnTheFly(new VsCode(context), execute, process.env);
  context.subscriptions.push({ dispose: () => { extension.stop(); } });
  extension.start();
}
