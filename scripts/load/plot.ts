/** Latency against load as a picture: one panel for each of what a reader waits for, and one for what all get together. */
import { scaleLinear, scalePoint } from 'd3-scale'
import { line } from 'd3-shape'
import type { LoadLevel } from './measure.js'

const WIDTH = 720
const PANEL = 190
const MARGIN = { top: 34, right: 24, bottom: 30, left: 64 } as const

interface Series {
  readonly name: string
  readonly colour: string
  readonly value: (level: LoadLevel) => number | undefined
}

interface Panel {
  readonly title: string
  readonly series: readonly Series[]
}

// Told apart without colours too: the 99th percentile is dashed.
const [MEDIAN, TAIL] = ['#1b6ca8', '#b3541e']
const PANELS: readonly Panel[] = [
  {
    title: 'time to first token, ms',
    series: [
      { name: 'p50', colour: MEDIAN, value: (level) => level.firstTokenMs.p50 },
      { name: 'p99', colour: TAIL, value: (level) => level.firstTokenMs.p99 },
    ],
  },
  {
    title: 'between tokens, ms',
    series: [
      { name: 'p50', colour: MEDIAN, value: (level) => level.betweenTokensMs?.p50 },
      { name: 'p99', colour: TAIL, value: (level) => level.betweenTokensMs?.p99 },
    ],
  },
  {
    title: 'tokens a second, all readers together',
    series: [{ name: '', colour: MEDIAN, value: (level) => level.tokensPerSecond }],
  },
]

/** An SVG document; its axis is readers at once, its zero is at the bottom of each panel. */
export function plotLoad(title: string, subtitle: string, levels: readonly LoadLevel[]): string {
  const head = 58
  const height = head + PANELS.length * PANEL + 24
  const x = scalePoint<number>()
    .domain(levels.map(({ readers }) => readers))
    .range([MARGIN.left, WIDTH - MARGIN.right])
    .padding(0.3)
  const panels = PANELS.map((panel, i) => drawPanel(panel, head + i * PANEL, levels, (readers) => x(readers) ?? 0))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" role="img" aria-label="${inXml(title)}: latency against load">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="${MARGIN.left}" y="24" font-size="15" font-weight="bold">${inXml(title)}</text>`,
    `<text x="${MARGIN.left}" y="42" fill="#555">${inXml(subtitle)}</text>`,
    ...panels,
    `<text x="${WIDTH / 2}" y="${height - 8}" text-anchor="middle">readers at once</text>`,
    '</svg>',
    '',
  ].join('\n')
}

function drawPanel(
  { title, series }: Panel,
  top: number,
  levels: readonly LoadLevel[],
  x: (readers: number) => number,
): string {
  const values = series.flatMap(({ value }) => levels.map(value)).filter((value) => value !== undefined)
  const y = scaleLinear()
    .domain([0, Math.max(1e-3, ...values)])
    .nice(5)
    .range([top + PANEL - MARGIN.bottom, top + MARGIN.top])
  const right = WIDTH - MARGIN.right
  const grid = y.ticks(5).map((tick) => {
    const at = round(y(tick))
    return [
      `<line x1="${MARGIN.left}" x2="${right}" y1="${at}" y2="${at}" stroke="#ddd"/>`,
      `<text x="${MARGIN.left - 8}" y="${at + 4}" text-anchor="end" fill="#555">${tick}</text>`,
    ].join('')
  })
  const below = top + PANEL - MARGIN.bottom + 16
  const readers = levels.map(
    (level) =>
      `<text x="${round(x(level.readers))}" y="${below}" text-anchor="middle" fill="#555">${level.readers}</text>`,
  )
  return [
    `<text x="${MARGIN.left}" y="${top + 20}" font-weight="bold">${title}</text>`,
    ...grid,
    ...readers,
    ...series.map((one, i) => drawSeries(one, i, { top, levels, x, y })),
  ].join('\n')
}

interface Area {
  readonly top: number
  readonly levels: readonly LoadLevel[]
  readonly x: (readers: number) => number
  readonly y: (value: number) => number
}

function drawSeries({ name, colour, value }: Series, nth: number, { top, levels, x, y }: Area): string {
  const points = levels.flatMap((level) => {
    const own = value(level)
    return own === undefined ? [] : [[round(x(level.readers)), round(y(own))] as [number, number]]
  })
  const dash = nth === 0 ? '' : ' stroke-dasharray="5 4"'
  const legend = WIDTH - MARGIN.right - 120 + nth * 64
  return [
    `<path d="${line()(points) ?? ''}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`,
    ...points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`),
    ...(name === ''
      ? []
      : [
          `<line x1="${legend}" x2="${legend + 22}" y1="${top + 16}" y2="${top + 16}" stroke="${colour}" stroke-width="2"${dash}/>`,
          `<text x="${legend + 27}" y="${top + 20}">${name}</text>`,
        ]),
  ].join('')
}

const round = (value: number): number => Math.round(value * 10) / 10

const inXml = (text: string): string => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
