// Bundles the extension, and puts the built dashboard beside it: the very files that the hub serves.
import { build } from "esbuild";
import { cpSync, rmSync } from "node:fs";

rmSync("dist", { recursive: true, force: true });
await build({
  entryPoints: ["src/extension.ts"],
  outfile: "dist/extension.js",
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node22",
  external: ["vscode"],
  minify: true,
  legalComments: "none",
  logLevel: "warning",
});
cpSync("../../onthefly/hub/static/assets", "dist/dashboard", { recursive: true });
