import { defineConfig } from "vitest/config";

// Relative addresses: the same files are served by the hub and, later, by the editor.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../../onthefly/hub/static",
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    // What the bundle holds of others' work goes with their notices, as their licences ask.
    license: { fileName: "licenses.md" },
    rolldownOptions: {
      output: { entryFileNames: "assets/dashboard.js", chunkFileNames: "assets/[name].js", assetFileNames: "assets/dashboard[extname]" },
    },
  },
  // A test reads a table of the package that the page repeats.
  server: { fs: { allow: ["../.."] } },
  test: { environment: "happy-dom", include: ["test/**/*.test.ts", "test/**/*.test.tsx"] },
});
