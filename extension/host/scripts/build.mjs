// Bundles the extension, and puts the built dashboard beside it: the very files that the hub serves.
import { build } from "esbuild";
import { cpSync, rmSync } from "node:fs";

const options = { bundle: true, platform: "node", format: "cjs", target: "node22", external: ["vscode"], legalComments: "none", logLevel: "warning" };
for (const folder of ["dist", "dist-suite"]) rmSync(folder, { recursive: true, force: true });
await build({ ...options, entryPoints: ["src/extension.ts"], outfile: "dist/extension.js", minify: true });
// The tests that run inside the extension host; no part of the package.
await build({ ...options, entryPoints: ["suite/index.ts"], outfile: "dist-suite/index.js" });
cpSync("../../onthefly/hub/static/assets", "dist/dashboard", { recursive: true });
cpSync("../../onthefly/hub/static/licenses.md", "dist/dashboard/licenses.md");
