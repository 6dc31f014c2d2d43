"""The looks of a report: light, dark, and on paper."""

CSS = """
:root { color-scheme: light dark; --back: #fff; --card: #fff; --text: #1c2024; --soft: #60646c; --line: #e3e5e8;
  --good: #18794e; --warning: #ad5700; --bad: #cd2b31; --unknown: #60646c;
  --c0: #3e63dd; --c1: #d9730d; --c2: #2a7e3b; --c3: #b4459a; --c4: #0e8a94; --c5: #8d6e1f; }
@media (prefers-color-scheme: dark) { :root { --back: #111315; --card: #181a1d; --text: #eceef0; --soft: #9ba1a6;
  --line: #2b2f33; --good: #4cc38a; --warning: #ffb15e; --bad: #ff8589; --unknown: #9ba1a6;
  --c0: #849dff; --c1: #ff9c47; --c2: #63c174; --c3: #e58fd0; --c4: #4fccd6; --c5: #d9b95b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; padding-top: 16px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 80ch; }
.soft, .tick, th, dt, .label { color: var(--soft); }
code, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 13px; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 20px 0 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; background: var(--card); }
.tile b { display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile .label { font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 16px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px 6px; background: var(--card);
  break-inside: avoid; min-width: 0; }
figcaption { display: flex; justify-content: space-between; gap: 12px; margin: 0 2px 4px; overflow-wrap: anywhere; }
figcaption .value { font-variant-numeric: tabular-nums; color: var(--soft); white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.tick { font-size: 11px; fill: var(--soft); } .end { text-anchor: end; } .middle { text-anchor: middle; }
.curve { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; } .dot { fill: var(--c); }
.band { fill: var(--c); opacity: .18; stroke: none; } .bar { fill: var(--c0); }
.mark { stroke: var(--warning); stroke-dasharray: 3 3; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); } .s3 { --c: var(--c3); } .s4 { --c: var(--c4); }
.s5 { --c: var(--c5); }
.legend { font-size: 13px; display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 2px; color: var(--soft); }
.key { display: inline-block; width: 12px; height: 3px; background: var(--c); vertical-align: middle;
  margin-right: 6px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; font-size: 13px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.check { border-bottom: 1px solid var(--line); padding: 12px 0; break-inside: avoid; }
.check:first-of-type { padding-top: 0; }
.verdict { display: inline-block; min-width: 96px; font-size: 13px; font-weight: 600; }
.verdict::before { content: "\\25CF\\00A0"; }
.good { color: var(--good); } .warning { color: var(--warning); } .bad { color: var(--bad); }
.unknown { color: var(--unknown); }
.do { margin-left: 96px; } .do, .check table { margin-top: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
details { margin-top: 12px; } summary { cursor: pointer; }
pre { margin: 8px 0; padding: 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--card);
  white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; }
footer { margin-top: 40px; font-size: 13px; color: var(--soft); }
@media print { :root { color-scheme: light; --back: #fff; --card: #fff; --text: #000; --soft: #444; --line: #ccc;
  --good: #18794e; --warning: #ad5700; --bad: #cd2b31; --unknown: #444;
  --c0: #3e63dd; --c1: #d9730d; --c2: #2a7e3b; --c3: #b4459a; --c4: #0e8a94; --c5: #8d6e1f; }
  main { padding: 0; max-width: none; } h2 { break-after: avoid; } .charts { grid-template-columns: 1fr 1fr; }
  body { font-size: 12px; } table { font-size: 11px; } tr { break-inside: avoid; } .tiles { gap: 6px; } }
@media (max-width: 560px) { main { padding: 16px 14px 40px; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; } .do { margin-left: 0; } }
"""
