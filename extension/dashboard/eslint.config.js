import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "src/protocol.ts", "eslint.config.js", "e2e"] },
  ...tseslint.configs.strictTypeChecked,
  { languageOptions: { parserOptions: { projectService: true } } },
  {
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text nodes only: names and logs come from strangers." },
        { property: "outerHTML", message: "Text nodes only." },
        { property: "insertAdjacentHTML", message: "Text nodes only." },
        { property: "setHTMLUnsafe", message: "Text nodes only." },
        { property: "createContextualFragment", message: "Text nodes only." },
        { property: "parseFromString", message: "Text nodes only." },
        { object: "document", property: "write", message: "Text nodes only." },
        { object: "document", property: "writeln", message: "Text nodes only." },
      ],
      "no-restricted-syntax": [
        "error",
        { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Text nodes only." },
        { selector: "Property[key.name='dangerouslySetInnerHTML']", message: "Text nodes only." },
        { selector: "JSXAttribute[name.name='style']", message: "The page's CSP forbids style attributes." },
      ],
    },
  },
);
