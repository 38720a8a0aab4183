import type { Config, TopLevelSpec } from 'vega-lite';
import type { Series } from '../contents.js';
import { escapeHtml, html, trusted, type Markup } from '../html.js';
import { drawnAs, HUES } from '../palette.js';

/** A chart to draw: a vega-lite unit or layer without its configuration, and what it shows in words. */
export interface Chart {
  readonly description: string;
  readonly spec: Omit<TopLevelSpec, 'config'>;
}

/** Draws a chart as SVG that takes colours and type from the page around it. */
export async function renderChart({ description, spec }: Chart): Promise<Markup> {
  const { vega, compile } = await (drawing ??= loadDrawing());
  const logger = vega.logger(vega.Error);
  const { spec: compiled } = compile({ ...spec, config: THEME } as TopLevelSpec, { logger });
  const view = new vega.View(vega.parse(compiled), { renderer: 'none', logger });
  try {
    const svg = trimmed(await view.toSVG());
    return trusted(svg.replace('<svg ', `<svg role="img" aria-label="${escapeHtml(description)}" `));
  } finally {
    view.finalize();
  }
}

/** A chart with its title, caption and key. */
export async function figure(title: string, caption: string, series: readonly Series[], chart: Chart): Promise<Markup> {
  return html`<figure>
    <figcaption><strong>${title}</strong><span>${caption}</span></figcaption>
    ${series.length > 0 ? legend(series) : null}${await renderChart(chart)}
  </figure>`;
}

/** A chart as wide as the page, and a narrower one of the same for a phone. */
export async function wideFigure(
  title: string,
  caption: string,
  chart: (size: Size) => Chart,
  onDesk: Size = WIDE,
): Promise<Markup> {
  const [wide, narrow] = await Promise.all([onDesk, NARROW].map((size) => renderChart(chart(size))));
  return html`<figure>
    <figcaption><strong>${title}</strong><span>${caption}</span></figcaption>
    <div class="at-desk">${wide ?? null}</div>
    <div class="at-phone">${narrow ?? null}</div>
  </figure>`;
}

/** Figures side by side, as many as fit. */
export function grid(figures: readonly Markup[]): Markup {
  return html`<div class="grid">${figures}</div>`;
}

/** Without what only vega's own styling and interaction need, and in hundredths of a pixel: a third of the size. */
function trimmed(svg: string): string {
  return svg
    .replace(/<path class="(?:fore|back)ground"[^>]*?(?: d="(?:M0,0h0v0h0Z)?"[^>]*| display="none")\/>/g, '')
    .replace(/<[^>]*>/g, (tag) =>
      tag
        .replace(/ (?:class|role|aria-[a-z]+|pointer-events|version|xmlns(?::xlink)?)="[^"]*"| opacity="1"/g, '')
        .replace(/\d+\.\d{3,}(?:e-\d+)?/g, (number) => String(Number(Number(number).toFixed(2)))),
    );
}

// Vega has no canvas in Node and takes every character to be 0.8 em wide. These are the widths of a wide face (DejaVu Sans), in em,
// so that nothing is clipped in a narrower one.
const CHARACTER_WIDTHS: readonly (readonly [RegExp, number])[] = [
  [/[ijl.,:;|'!I()[\]]/, 0.36],
  [/[mwMW@%]/, 0.95],
  [/[a-z0-9 _\-+/]/, 0.63],
  [/[A-Z]/, 0.74],
];

/** Width of a text in px. */
export function textWidth(text: string, fontSize: number): number {
  const widthOf = (character: string): number => CHARACTER_WIDTHS.find(([group]) => group.test(character))?.[1] ?? 1;
  return fontSize * Array.from(text).reduce((sum, character) => sum + widthOf(character), 0);
}

/** Places as near as can be to those wished for, at least `gap` apart, between `low` and `high` where all of them fit. */
export function spread(
  wished: readonly number[],
  { gap, low, high }: { readonly gap: number; readonly low: number; readonly high: number },
): number[] {
  const order = wished.map((_, index) => index).sort((a, b) => (wished[a] as number) - (wished[b] as number));
  const places = [...wished];
  let above = low - gap;
  for (const index of order) above = places[index] = Math.max(places[index] as number, above + gap);
  let below = high + gap;
  for (const index of order.reverse()) below = places[index] = Math.min(places[index] as number, below - gap);
  return places;
}

/**
 * Which of some places at a right edge each anchor gets, so that no two straight lines from the anchors to their places cross: two
 * places are changed as long as that makes the lines shorter, which it does wherever two of them cross.
 */
export function uncrossed(
  anchors: readonly { readonly x: number; readonly y: number }[],
  places: readonly number[],
  edge: number,
): number[] {
  const taken = places.map((_, index) => index);
  const length = (anchor: number, place: number): number => {
    const { x, y } = anchors[anchor] as { x: number; y: number };
    return Math.hypot(edge - x, (places[place] as number) - y);
  };
  const changeOne = (): boolean => {
    for (let a = 0; a < taken.length; a++) {
      for (let b = a + 1; b < taken.length; b++) {
        const [ofA, ofB] = [taken[a] as number, taken[b] as number];
        if (length(a, ofB) + length(b, ofA) >= length(a, ofA) + length(b, ofB) - 1e-9) continue;
        taken[a] = ofB;
        taken[b] = ofA;
        return true;
      }
    }
    return false;
  };
  while (changeOne());
  return taken;
}

type Drawing = { readonly vega: typeof import('vega'); readonly compile: (typeof import('vega-lite'))['compile'] };

let drawing: Promise<Drawing> | undefined;

/** Vega and Vega-Lite are most of what this package would load, and only a report needs them. */
async function loadDrawing(): Promise<Drawing> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const { textMetrics } = vega as unknown as { readonly textMetrics: TextMetrics };
  textMetrics.width = (item, text) => textWidth(String(text ?? ''), item.fontSize ?? 11);
  return { vega, compile };
}

// Vega exports the object for this purpose, but its types leave it out.
interface TextMetrics {
  width: (item: { readonly fontSize?: number }, text: string | number | null | undefined) => number;
}

/** Natural size of a chart in px: it fills a phone, and two or three stand side by side on a desk. */
export const WIDTH = 420;
export const HEIGHT = 264;

/** Width and height of a chart in px, its axes included. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Of a chart across the whole page, and of the same one on a phone. */
export const WIDE: Size = { width: 1296, height: 440 };
export const NARROW: Size = { width: WIDTH, height: 400 };

/** The colours of the page and its charts as CSS variables, for light and dark paper. */
export const COLOR_VARIABLES = {
  light: variables('light', {
    paper: '#ffffff',
    ground: '#f6f7f9',
    ink: '#1b1f27',
    soft: '#5a6372',
    line: '#dfe3e9',
    strong: '#0b4f7d',
    'on-strong': '#ffffff',
    good: '#00704f',
    bad: '#b3261e',
    'better-1': '#d6e8f7',
    'better-2': '#8fc3ea',
    band: '#e4eef6',
    'worse-1': '#fbe3cf',
    'worse-2': '#f5b27a',
  }),
  dark: variables('dark', {
    paper: '#171b22',
    ground: '#0f1217',
    ink: '#e7eaf0',
    soft: '#a3adbd',
    line: '#2c333f',
    strong: '#2477b8',
    'on-strong': '#ffffff',
    good: '#4fd6a8',
    bad: '#ff8a80',
    'better-1': '#173a56',
    'better-2': '#1f6298',
    band: '#1d2a38',
    'worse-1': '#4a2f16',
    'worse-2': '#8a4a12',
  }),
};

/** A colour scale over these series. */
export function colorScale(series: readonly Series[]): { domain: string[]; range: string[] } {
  return { domain: series.map(({ label }) => label), range: series.map(({ look }) => drawnAs(look).color) };
}

/** A dash scale over these series. */
export function dashScale(series: readonly Series[]): { domain: string[]; range: number[][] } {
  return { domain: series.map(({ label }) => label), range: series.map(({ look }) => drawnAs(look).dash) };
}

/** The key of a chart, in HTML, so that it wraps. */
export function legend(series: readonly Series[]): Markup {
  const keys = series.map(({ label, look }) => {
    const { color, outline, dash } = drawnAs(look);
    return (
      `<li><svg width="30" height="12" viewBox="-15 -6 30 12" aria-hidden="true">` +
      `<path d="M-15,0H15" stroke="${color}" stroke-width="2" stroke-dasharray="${dash.join(' ')}"/>` +
      `<path d="${outline}" transform="scale(4)" fill="${color}"/></svg><bdi>${escapeHtml(label)}</bdi></li>`
    );
  });
  return trusted(`<ul class="legend">${keys.join('')}</ul>`);
}

/** The manner of every chart: quiet axes, no frame, type and colours of the page. */
const THEME: Config = {
  aria: false,
  background: 'transparent',
  font: 'inherit',
  padding: 2,
  view: { stroke: null },
  axis: {
    labelColor: 'var(--soft)',
    titleColor: 'var(--soft)',
    gridColor: 'var(--line)',
    domainColor: 'var(--line)',
    tickColor: 'var(--line)',
    labelFontSize: 13,
    titleFontSize: 13,
    titleFontWeight: 'normal',
    titlePadding: 8,
    labelLimit: 0,
    labelPadding: 5,
    tickSize: 4,
  },
  axisX: { grid: false, tickCount: 5 },
  axisY: { domain: false, ticks: false, tickCount: 5 },
  text: { fontSize: 13, color: 'var(--ink)' },
};

function variables(side: 'light' | 'dark', named: Readonly<Record<string, string>>): string {
  const series = HUES.map((color, index) => `--series-${index}:${color[side]}`);
  return [...Object.entries(named).map(([key, color]) => `--${key}:${color}`), ...series].join(';');
}
