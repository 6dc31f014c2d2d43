// Makes the vsix: node scripts/package.mjs [FILE]. Everything that it holds was built before.
import { createVSIX } from "@vscode/vsce";
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

const MAX_BYTES = 1_000_000;
const file = process.argv[2] ?? "../../dist/onthefly.vsix";
mkdirSync(dirname(file), { recursive: true });
await createVSIX({ cwd: ".", packagePath: file, dependencies: false, allowMissingRepository: true, rewriteRelativeLinks: false });
const { size } = statSync(file);
console.log(`${file}: ${size} bytes`);
if (size > MAX_BYTES) throw new Error(`the vsix has more than ${MAX_BYTES} bytes`);
