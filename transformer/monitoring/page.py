"""How the report page looks."""

STYLE = """
:root { --ink: #24292f; --soft: #6a737d; --line: #e1e4e8; --blue: #4269d0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 32px 24px 64px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0 0 20px; font-size: 30px; overflow-wrap: anywhere; }
h2 { margin: 44px 0 14px; padding-bottom: 6px; font-size: 20px; border-bottom: 1px solid var(--line); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; }
.tile { padding: 14px 16px; border: 1px solid var(--line); border-radius: 8px; }
.what { color: var(--soft); font-size: 13px; }
.number { font-size: 26px; font-weight: 650; font-variant-numeric: tabular-nums; }
.more { color: var(--soft); font-size: 11.5px; overflow-wrap: anywhere; }
svg, img { display: block; max-width: 100%; height: auto; }
svg { width: 100%; }
img { max-height: 720px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 6px; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tbody tr { border-bottom: 1px solid var(--line); }
tbody tr:hover { background: #f6f8fa; }
tr.best { font-weight: 700; background: #eef6ee; }
ul { padding-left: 18px; color: var(--soft); font-size: 13px; }
.sample { display: grid; grid-template-columns: 84px 1fr; gap: 3px 12px; margin: 0 0 12px; padding: 12px 16px;
  border-left: 3px solid var(--blue); background: #f8f9fb; border-radius: 0 6px 6px 0; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; }
mark { padding: 0 3px; background: #ffe3de; border-radius: 3px; }
figure { margin: 0 0 24px; }
figcaption { margin-top: 6px; color: var(--soft); font-size: 13px; }
pre { margin: 0; padding: 16px; overflow-x: auto; background: #f6f8fa; border-radius: 8px;
  font: 13px/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
code { font: 12.5px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.version { display: inline-block; margin-right: 16px; color: var(--soft); font-size: 13.5px; }
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid-page; } }
"""
