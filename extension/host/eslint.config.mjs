import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "dist", "dist-suite", "eslint.config.mjs", "scripts", "e2e"] },
  ...tseslint.configs.strictTypeChecked,
  { languageOptions: { parserOptions: { projectService: true } } },
  {
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "max-lines": ["error", 400],
      "max-lines-per-function": ["error", 60],
      // One file wraps the editor's API, one composes: everything else is tested with a fake.
      "no-restricted-imports": ["error", { paths: [{ name: "vscode", message: "Only vscode.ts and extension.ts speak to the editor." }] }],
    },
  },
  { files: ["src/vscode.ts", "src/extension.ts", "suite/**"], rules: { "no-restricted-imports": "off" } },
  { files: ["test/**", "suite/**"], rules: { "max-lines-per-function": "off" } },
);
