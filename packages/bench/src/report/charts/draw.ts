import type { Config, TopLevelSpec } from 'vega-lite';
import type { Series } from '../contents.js';
import { escapeHtml, Markup, trusted } from '../html.js';
import { drawnAs, HUES } from '../palette.js';

/** A chart to draw. */
export interface Chart {
  /** What the chart shows, in words. */
  readonly description: string;
  /** A vega-lite unit or layer spec without its configuration. */
  readonly spec: Omit<TopLevelSpec, 'config'>;
}

/** Draws a chart as SVG, whose colours and fonts come from the page; one that is drawn already stays as it is. */
export async function renderChart(chart: Chart | Markup): Promise<Markup> {
  if (chart instanceof Markup) return chart;
  const { description, spec } = chart;
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

/** The spec of layers in a frame of a size; the axes are part of the width and, with `fit`, of the height. */
export function layered(
  size: Size,
  encoding: object,
  layer: readonly object[],
  { values = [], type = 'fit' }: { values?: readonly object[]; type?: 'fit' | 'fit-x' } = {},
): Chart['spec'] {
  return { ...size, autosize: { type, contains: 'padding' }, data: { values }, encoding, layer } as Chart['spec'];
}

/** A layer with data of its own. */
export function layerFrom(values: readonly object[], mark: object, encoding: object): object {
  return { data: { values }, mark, encoding };
}

/** An encoding by the numbers in a field. */
export function quantity(field: string, more: object = {}): object {
  return { field, type: 'quantitative', ...more };
}

/** An encoding by a field whose values are colours, outlines or opacities: they are used without a scale. */
export function plain(field: string, type: 'nominal' | 'quantitative' = 'nominal'): object {
  return { field, type, scale: null, legend: null };
}

/** An encoding by colour, from the field `series`. */
export function colorBy(series: readonly Series[]): object {
  return bySeries(series, 'color');
}

/** An encoding by dashes, from the field `series`. */
export function dashBy(series: readonly Series[]): object {
  return bySeries(series, 'dash');
}

function bySeries(series: readonly Series[], trait: 'color' | 'dash'): object {
  const scale = { domain: series.map(({ label }) => label), range: series.map(({ look }) => drawnAs(look)[trait]) };
  return { field: 'series', type: 'nominal', scale, legend: null };
}

/** A number to 0.01 px. */
export function digits(value: number): string {
  return String(Number(value.toFixed(2)));
}

/**
 * Removes what only vega's styling and interaction need, and rounds numbers to 0.01 px: a third of the size remains.
 */
function trimmed(svg: string): string {
  return svg.replace(/<[^<>]*>/g, (tag) => {
    if (/^<path class="(?:fore|back)ground"/.test(tag) && UNSEEN.test(tag)) return '';
    return tag
      .replace(/ (?:class|role|aria-[a-z]+|pointer-events|version|xmlns(?::xlink)?)="[^"]*"| opacity="1"/g, '')
      .replace(/(?<!\d)\d+\.\d{3,}(?:e-\d+)?/g, (number) => digits(Number(number)));
  });
}

const UNSEEN = / d="(?:M0,0h0v0h0Z)?"| display="none"\/>$/;

// Vega has no canvas in Node and takes every character to be 0.8 em wide. These are the widths, in em, of a wide
// typeface (DejaVu Sans), so that nothing is clipped in narrower ones.
const CHARACTER_WIDTHS: readonly (readonly [RegExp, number])[] = [
  [/[ijl.,:;|'!I()[\]]/, 0.36],
  [/[mwMW@%]/, 0.95],
  [/[a-z0-9 _\-+/]/, 0.63],
  [/[A-Z]/, 0.74],
];

/** The width of a text in px. */
export function textWidth(text: string, fontSize: number): number {
  const widthOf = (character: string): number => CHARACTER_WIDTHS.find(([group]) => group.test(character))?.[1] ?? 1;
  return fontSize * Array.from(text).reduce((sum, character) => sum + widthOf(character), 0);
}

/**
 * Returns positions near the wished ones that are at least `gap` apart and at most `high`; also at least `low`, if they
 * all fit.
 */
export function spread(
  wished: readonly number[],
  { gap, low, high }: { readonly gap: number; readonly low: number; readonly high: number },
): number[] {
  const order = wished.map((_, index) => index).sort((a, b) => (wished[a] as number) - (wished[b] as number));
  const positions = [...wished];
  let above = low - gap;
  for (const index of order) above = positions[index] = Math.max(positions[index] as number, above + gap);
  let below = high + gap;
  for (const index of order.reverse()) below = positions[index] = Math.min(positions[index] as number, below - gap);
  return positions;
}

/** The libraries that draw charts. */
type Drawing = { readonly vega: typeof import('vega'); readonly compile: (typeof import('vega-lite'))['compile'] };

let drawing: Promise<Drawing> | undefined;

/** Loads Vega and Vega-Lite on demand: they are large, and only reports need them. */
async function loadDrawing(): Promise<Drawing> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const { textMetrics } = vega as unknown as { readonly textMetrics: TextMetrics };
  textMetrics.width = (item, text) => textWidth(String(text ?? ''), item.fontSize ?? 11);
  return { vega, compile };
}

// Vega exports this object to be changed, but its types leave it out.
interface TextMetrics {
  width: (item: { readonly fontSize?: number }, text: string | number | null | undefined) => number;
}

/** The width of a chart in px: it fills a phone, and two or three fit side by side on a desktop screen. */
export const WIDTH = 420;
/** The height of a chart in px. */
export const HEIGHT = 264;

/** The size of a chart in px, including its axes. */
export interface Size {
  /** Width in px. */
  readonly width: number;
  /** Height in px. */
  readonly height: number;
}

/** The size of a chart across the whole page. */
export const WIDE: Size = { width: 1296, height: 440 };
/** The size of such a chart on a phone. */
export const NARROW: Size = { width: WIDTH, height: 400 };

/** The colours of the page and its charts as CSS variables, for the light and dark themes. */
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
    band: '#e4eef6',
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
    band: '#1d2a38',
  }),
};

/** The legend of a chart, in HTML so that it wraps. */
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

/** The style of every chart: light axes, no frame, fonts and colours of the page. */
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
