import { formatBytes } from '../units.js'
import type { ReportData, StageData } from './data.js'
import { exactly } from './format.js'
import { Html, html, jsonInScript } from './html.js'
import { axisNames, glossary, kinds } from './kinds.js'
import type { ProgramData } from './program-data.js'
import { pageScript } from './script.js'
import { pageStyle } from './style.js'
import { alternativesTable, largestTable, peakTable, programFigures, stageTable } from './tables.js'

/** Nothing may be fetched, wherever the page is opened. */
const policy =
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

/** The memory timeline as one self-contained HTML page, its data inside as JSON in the element `data`. */
export function reportPage(data: ReportData): string {
  const worst = data.stages.reduce((a, b) => (b.peakBytes > a.peakBytes ? b : a))
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>Memory timeline: ${data.model}</title>
<style>${new Html(pageStyle)}</style>
</head>
<body>
<main>
<header class="panel">
<h1>Memory timeline</h1>
${verdict(data, worst)}
<ul class="options">${optionList(data)}</ul>
${stageTable(data)}
<details><summary>How to read this page</summary>
<dl>${glossary.map(([word, meaning]) => html`<dt>${word}</dt><dd>${meaning}</dd>`)}</dl>
<p>Colours tell what memory is for:</p>
<dl>${kinds.map(({ id, label, meaning }) => html`<dt><span class="key" style="--key:var(--kind-${id})">${label}</span></dt><dd>${meaning}</dd>`)}</dl>
<p>In the pictures: drag to zoom, Ctrl and the wheel to zoom, Shift and the wheel to move, double click to see all again. With the keyboard: ← → move a step (Shift: ten), ↑ ↓ go
through what is alive there, + and − zoom, P shows the peak, 0 shows all.</p>
</details>
</header>
<noscript><p>The pictures need JavaScript; the tables do not.</p></noscript>
<div class="tabs" role="tablist" aria-label="Stages">${data.stages.map(
    (stage, i) =>
      html`<button type="button" role="tab" id="tab-${i}" data-panel="stage-${i}" aria-controls="stage-${i}" ${stage === worst && html`data-first`}>${stage.name}<small>${formatBytes(stage.peakBytes)}</small></button>`,
  )}</div>
${data.stages.map(stageSection)}
${alternativesTable(data)}
<footer><p>Made by sluice ${data.sluice}. Predicted times come from: ${data.cost}. The numbers are in this page as JSON, in the element <code>data</code>.</p></footer>
</main>
<div id="tip" role="tooltip" hidden></div>
<script type="application/json" id="data">${jsonInScript(data)}</script>
<script>${new Html(pageScript())}</script>
</body>
</html>
`.toString()
}

function verdict({ peakBytes, budget, stages }: ReportData, worst: StageData): Html {
  const left = budget === undefined ? undefined : budget - peakBytes
  const ran = stages.filter(({ measuredBytes }) => measuredBytes !== undefined)
  const equal = ran.filter(stage => stage.measuredBytes === stage.peakBytes)
  const budgetText =
    budget === undefined
      ? 'No budget was set.'
      : left === 0
        ? `The budget of ${formatBytes(budget)} holds it to the byte.`
        : `The budget of ${formatBytes(budget)} holds it with ${formatBytes(left!)} to spare.`
  const measured =
    ran.length === 0
      ? 'This is a plan; nothing has run.'
      : equal.length === ran.length
        ? `Measured in ${count(ran.length, 'stage')}: every byte as predicted.`
        : `Measured in ${count(ran.length, 'stage')}: ${ran.length - equal.length} not as predicted.`
  return html`<p class="verdict">The peak is <b>${exactly(peakBytes)}</b>, in stage <b>${worst.name}</b>.</p>
<p>${budgetText} ${measured}</p>`
}

const count = (many: number, what: string): string => `${many} ${what}${many === 1 ? '' : 's'}`

function optionList({ model, prompt, image, seed, options }: ReportData): Html[] {
  const { frames, width, height, ...rest } = options
  const entries: [string, string | number | undefined][] = [
    ['model', model],
    ['prompt', prompt],
    ['image', image],
    ['video', `${frames} frames of ${width} × ${height}`],
    ...Object.entries(rest),
    ['seed', seed],
  ]
  return entries.flatMap(([name, value]) =>
    value === undefined ? [] : [html`<li>${name} <b>${value}</b></li>`],
  )
}

function stageSection(stage: StageData, i: number): Html {
  const shown = stage.programs.filter(({ buffers }) => buffers.bytes.length > 0)
  return html`<div id="stage-${i}" role="tabpanel" aria-labelledby="tab-${i}">
${
  shown.length > 1 &&
  html`<div class="tabs program-tabs" role="tablist" aria-label="Programs of stage ${stage.name}">${shown.map(
    ({ name, bytes }, p) =>
      html`<button type="button" role="tab" id="tab-${i}-${p}" data-panel="program-${i}-${p}" aria-controls="program-${i}-${p}">${name}<small>${formatBytes(bytes)}</small></button>`,
  )}</div>`
}
${shown.map(
  (
    program,
    p,
  ) => html`<section class="panel" id="program-${i}-${p}" ${shown.length > 1 && html`role="tabpanel" aria-labelledby="tab-${i}-${p}"`}>
<h2>${stage.name}: ${program.name}</h2>
${programFigures(stage, program)}
${timeline(stage, i, program)}
${peakTable(program)}
${largestTable(program)}
</section>`,
)}
</div>`
}

function timeline(stage: StageData, i: number, program: ProgramData): Html {
  const canvas = (pane: string, label: string) =>
    html`<canvas data-pane="${pane}" ${pane === 'overview' ? html`aria-hidden="true"` : html`tabindex="0" role="img" aria-label="${label}"`}></canvas>`
  const button = (act: string, text: string, label: string) =>
    html`<button type="button" data-do="${act}" aria-label="${label}" title="${label}">${text}</button>`
  const used = new Set([
    ...(stage.state.length ? ['state'] : []),
    ...program.buffers.kind.map(kind => program.strings[kind]!),
  ])
  const known = kinds.map(({ id }) => id)
  const unknown = [...used].some(kind => !known.includes(kind))
  const legend = kinds.filter(({ id }) => used.has(id) || (id === 'other' && unknown))
  const axes = axisNames.filter(axis =>
    program.groups.some(
      group =>
        (group.slices > 1 && group.axis === axis) || group.inner.some(inner => inner.axis === axis),
    ),
  )
  return html`<figure data-stage="${i}" data-program="${stage.programs.indexOf(program)}">
<div class="tools">
${button('fit', 'Show all', 'Show all of the time')}${button('peak', 'Show the peak', 'Zoom to the peak')}${button('left', '←', 'Move to earlier steps')}${button('right', '→', 'Move to later steps')}${button('nearer', '+', 'Zoom in')}${button('farther', '−', 'Zoom out')}
<label>width by <select><option value="steps">operators</option><option value="commands">commands</option><option value="flops">arithmetic</option></select></label>
${stage.weightBytes > 0 && html`<label><input type="checkbox"> with weights (${formatBytes(stage.weightBytes)})</label>`}
</div>
<p class="keys">${legend.map(({ id, label, meaning }) => html`<span class="key" style="--key:var(--kind-${id})" title="${meaning}">${label}</span>`)}</p>
<p class="pane"><b>Live bytes</b> over the operators of one run, from first to last</p>
${canvas('chart', `Live bytes over ${program.steps} steps; the peak is ${exactly(program.base + program.lowerBound)}. Arrow keys move.`)}
<p class="pane"><b>Groups and slices</b> ${axes.length > 0 ? axes.map(axis => html`<span class="key" style="--key:var(--axis-${axis})">sliced along ${axis}</span>`) : 'nothing is sliced'}</p>
${canvas('groups', `${program.groups.length} groups over the same steps`)}
<p class="pane"><b>Arena map</b>: each rectangle is a tensor, as high as its bytes, at its place in the arena (upwards) and its time (to the right)</p>
${canvas('arena', `Arena map of ${program.buffers.bytes.length} buffers. Left and right move in time, up and down among the tensors alive.`)}
${canvas('overview', '')}
<p class="readout"></p>
<p class="unseen" aria-live="polite"></p>
</figure>`
}
