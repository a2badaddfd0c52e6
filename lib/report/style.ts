/** The page's style: light and dark by the reader's setting; system fonts only. */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --panel: #ffffff; --ink: #1c2430; --muted: #5b6675; --line: #e3e7ec;
  --accent: #1f6feb; --weights: #8779bd; --danger: #c4320a; --good: #18794e;
  --kind-state: #64748b; --kind-whole: #2f6fb7; --kind-band: #0f8a80; --kind-slice: #c2620b;
  --kind-inner: #9a7d0a; --kind-slab: #8447ad; --kind-scratch: #8b95a1; --kind-other: #b4335f;
  --axis-frames: #5b4bb5; --axis-rows: #2c7d59; --axis-columns: #a3541f; --axis-tokens: #8c3b7d;
  --axis-channels: #7a6a12; --axis-other: #667085;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f141a; --panel: #171d25; --ink: #e6ebf1; --muted: #9aa7b6; --line: #2a323d;
    --accent: #6ea8ff; --weights: #a396dd; --danger: #ff8a65; --good: #5fd39a;
    --kind-state: #8fa1b8; --kind-whole: #6aa5ea; --kind-band: #43c0b3; --kind-slice: #f0a04b;
    --kind-inner: #d9c04a; --kind-slab: #c08ce0; --kind-scratch: #7f8b99; --kind-other: #ee7ba1;
    --axis-frames: #a79af0; --axis-rows: #6cc79d; --axis-columns: #e0975f; --axis-tokens: #d98bc9;
    --axis-channels: #cdbb5a; --axis-other: #94a0b0;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 6px 0; max-width: 86ch; }
.muted, figcaption { color: var(--muted); }
.verdict { font-size: 18px; margin: 14px 0 4px; }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 18px 0; }
.options { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 0 0; padding: 0; list-style: none; color: var(--muted); font-size: 14px; }
.options b { color: var(--ink); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: 6px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--muted); font-size: 13px; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; }
.number, .shape { white-space: nowrap; }
.name { overflow-wrap: anywhere; min-width: 220px; }
td small { color: var(--muted); display: block; font-size: 12px; }
.mark { font-weight: 600; white-space: nowrap; }
.equal { color: var(--good); }
.differs { color: var(--danger); }
.bar { display: flex; height: 12px; min-width: 150px; border-radius: 3px; overflow: hidden; background: var(--line); position: relative; }
.bar i { display: block; height: 100%; }
.bar i.limit { position: absolute; width: 2px; background: var(--danger); top: 0; }
.key { display: inline-flex; white-space: nowrap; align-items: baseline; gap: 6px; margin-right: 16px; }
.key::before { content: ''; width: 11px; height: 11px; border-radius: 2px; background: var(--key); align-self: center; flex: none; }
.keys { font-size: 13px; color: var(--muted); margin: 8px 0; max-width: none; }
.tabs { display: none; gap: 6px; flex-wrap: wrap; margin: 22px 0 -8px; }
[data-script] .tabs { display: flex; }
[role=tab] { padding: 8px 14px; border-radius: 8px; font: inherit; border: 1px solid var(--line); background: var(--panel); color: var(--ink); cursor: pointer; }
[role=tab] small { color: var(--muted); margin-left: 6px; }
[role=tab][aria-selected=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.program-tabs { margin: 12px 0; }
.program-tabs [role=tab] { padding: 4px 10px; font-size: 14px; }
figure { margin: 12px 0 0; scroll-margin-top: 12px; }
.tools { display: none; gap: 6px 8px; flex-wrap: wrap; align-items: center; margin: 0 0 8px; font-size: 13px; }
[data-script] .tools { display: flex; }
.tools button, .tools select { font: inherit; padding: 3px 10px; border-radius: 6px; border: 1px solid var(--line); background: var(--page); color: var(--ink); cursor: pointer; }
.tools label { display: inline-flex; gap: 6px; align-items: center; margin-left: 8px; color: var(--muted); }
canvas { display: block; width: 100%; touch-action: pan-y; cursor: crosshair; border-radius: 4px; }
canvas[data-pane=chart] { height: 230px; }
canvas[data-pane=groups] { height: 36px; margin: 6px 0; }
canvas[data-pane=arena] { height: 440px; }
canvas[data-pane=overview] { height: 34px; margin-top: 10px; cursor: grab; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.pane { font-size: 13px; color: var(--muted); margin: 10px 0 2px; max-width: none; }
.pane b { color: var(--ink); }
.readout { font-size: 13px; min-height: 40px; margin: 8px 0 0; max-width: none; overflow-wrap: anywhere; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
#tip { position: fixed; z-index: 9; max-width: min(460px, 92vw); padding: 8px 11px; border-radius: 8px; background: var(--panel); color: var(--ink); border: 1px solid var(--muted); box-shadow: 0 4px 18px #0003; font-size: 12.5px; line-height: 1.45; pointer-events: none; overflow-wrap: anywhere; }
#tip[hidden] { display: none; }
#tip > * { display: block; }
#tip span { color: var(--muted); }
.link { font: inherit; text-align: left; padding: 0; border: 0; background: none; color: inherit; overflow-wrap: anywhere; }
[data-script] .link { color: var(--accent); cursor: pointer; }
[data-script] .link:hover { text-decoration: underline; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px 20px; margin: 12px 0 4px; }
.grid div span { display: block; font-size: 13px; color: var(--muted); }
.grid div b { font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.grid div small { display: block; color: var(--muted); font-variant-numeric: tabular-nums; }
details { margin: 14px 0 0; }
summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 10px 0; max-width: 100ch; }
dt { font-weight: 600; }
dd { margin: 0; color: var(--muted); }
footer { color: var(--muted); font-size: 13px; }
@media (max-width: 640px) { main { padding: 16px 12px 40px; } .panel { padding: 14px 12px; } dl { grid-template-columns: 1fr; } }
@media print { .tools, .tabs { display: none !important; } [hidden] { display: block !important; } .unseen, #tip { display: none !important; } }
`
