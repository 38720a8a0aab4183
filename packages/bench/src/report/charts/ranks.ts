import type { DoneTrial } from '@peftjs/cli/results';
import { figure, type Block } from '../blocks.js';
import { bySeries, type Entry } from '../contents.js';
import { escapeHtml, trusted, type Markup } from '../html.js';
import { digits, layered, plain, textWidth, WIDTH, type Chart } from './draw.js';

/** With more modules than this, each method gets its own grid: layers down, modules across. */
const MAX_ROWS = 28;
/** The most arms in one map. */
const MAX_COLUMNS = 8;

/** A cell of the heat map. */
interface ModuleCell {
  /** The label of the row. */
  readonly row: string;
  /** The label of the column. */
  readonly column: string;
  /** The mean rank. */
  readonly rank: number;
}

/**
 * Maps of live ranks at the selected checkpoints, averaged over seeds: one map, or one per arm if there are many
 * modules.
 */
export function rankFigures(title: string, entries: readonly Entry[]): Block[] {
  const ranked = bySeries(entries)
    .map((entry) => ({ label: entry.series.label, ranks: meanRanks(entry) }))
    .filter(({ ranks }) => ranks.size > 0);
  const paths = [...new Set(ranked.flatMap(({ ranks }) => [...ranks.keys()]))];
  if (paths.length === 0) return [];
  const most = Math.max(...ranked.flatMap(({ ranks }) => [...ranks.values()]));
  if (paths.length > MAX_ROWS && paths.every((path) => layerOf(path) !== undefined)) {
    return ranked.filter(({ ranks }) => !isEven(ranks)).map(({ label, ranks }) => layerMap(title, label, ranks, most));
  }
  const uneven = ranked.filter(({ ranks }) => !isEven(ranks));
  const labels = shortened(paths);
  const chunks = inChunks(uneven.length > 0 ? uneven : ranked, MAX_COLUMNS);
  return chunks.map((chunk, index) => {
    const cells = chunk.flatMap(({ label, ranks }) =>
      [...ranks].map(([path, rank]) => ({ row: labels.get(path) ?? path, column: label, rank })),
    );
    const about = chunks.length > 1 ? `Rank per module (${index + 1} of ${chunks.length})` : 'Rank per module';
    const chart = (): Chart => heatMap(`Rank per module and arm on ${title}`, cells, most);
    return figure(about, `${AT_CHECKPOINT}: modules down, arms across.`, chart);
  });
}

/** Splits items into as few chunks as possible, of about equal length. */
function inChunks<Item>(items: readonly Item[], most: number): Item[][] {
  const count = Math.ceil(items.length / most);
  const bound = (chunk: number): number => Math.round((chunk * items.length) / count);
  return Array.from({ length: count }, (_, chunk) => items.slice(bound(chunk), bound(chunk + 1)));
}

const AT_CHECKPOINT = 'At the selected checkpoint, mean over seeds';

/** A map for one arm: layers down, modules across. */
function layerMap(title: string, label: string, ranks: ReadonlyMap<string, number>, most: number): Block {
  const chart = (): Chart => heatMap(`Rank per module of ${label} on ${title}`, layerCells(ranks), most);
  return figure(`Rank per module: ${label}`, `${AT_CHECKPOINT}: layers down, modules across.`, chart);
}

/** Whether all modules have the same rank, so that no map is needed. */
function isEven(ranks: ReadonlyMap<string, number>): boolean {
  return new Set(ranks.values()).size === 1;
}

function heatMap(description: string, cells: readonly ModuleCell[], most: number): Chart {
  const columns = [...new Set(cells.map(({ column }) => column))];
  const crowded = columns.some((column) => textWidth(column, 13) > 240 / columns.length);
  const axis = { ticks: false, domain: false, labelColor: 'var(--ink)', grid: false };
  const own = { type: 'nominal', title: null, sort: null };
  const x = { ...own, field: 'column', axis: { ...axis, orient: 'top', labelAngle: crowded ? -90 : 0 } };
  const y = { ...own, field: 'row', axis };
  const rects = { type: 'rect', color: 'var(--strong)', stroke: 'var(--paper)', strokeWidth: 2 };
  const texts = cells.map(({ row, column, rank }) => `${column} ${row} ${rankText(rank)}`);
  const height = 24 * new Set(cells.map(({ row }) => row)).size;
  const values = cells.map((cell) => ({ ...cell, ...paint(cell.rank / (most || 1)), text: rankText(cell.rank) }));
  const layers = [
    { mark: rects, encoding: { fillOpacity: plain('opacity', 'quantitative') } },
    { mark: { type: 'text' }, encoding: { text: { field: 'text' }, color: plain('ink') } },
  ];
  return {
    description: `${description}: ${texts.join(', ').slice(0, 1500)}`,
    spec: layered({ width: WIDTH, height }, { x, y }, layers, { values, type: 'fit-x' }),
  };
}

/**
 * The opacity of a cell, which grows with its share of the largest rank, and a text colour that stays readable on it.
 */
function paint(share: number): { opacity: number; ink: string } {
  const opacity = 0.06 + 0.94 * share;
  return { opacity, ink: opacity > 0.72 ? 'var(--on-strong)' : 'var(--ink)' };
}

function rankText(rank: number): string {
  return Number.isInteger(rank) ? String(rank) : rank.toFixed(1);
}

function meanRanks({ trials }: Entry): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { ranks } of trials) {
    for (const [path, rank] of Object.entries(ranks)) sums.set(path, (sums.get(path) ?? 0) + rank / trials.length);
  }
  return new Map([...sums].map(([path, rank]) => [path, Number(rank.toFixed(3))]));
}

function layerCells(ranks: ReadonlyMap<string, number>): ModuleCell[] {
  const cells = [...ranks].map(([path, rank]) => ({ ...(layerOf(path) as { layer: number; module: string }), rank }));
  const labels = shortened([...new Set(cells.map(({ module }) => module))]);
  return cells
    .sort((a, b) => a.layer - b.layer)
    .map(({ layer, module, rank }) => ({ row: `layer ${layer}`, column: labels.get(module) ?? module, rank }));
}

/** Columns of a map that belong together. */
export interface RankGroup {
  /** The title above them. */
  readonly title: string;
  /** The columns, from the left: their ranks by module path, and their widths relative to others. */
  readonly columns: readonly { readonly width: number; readonly ranks: Readonly<Record<string, number>> }[];
}

/** With at most this many modules, each has its name; otherwise only layers are named. */
const MAX_NAMED = 16;
/** The gap between two groups, in px. */
const GAP = 8;
const TOP = 20;
/** The font size, in px. */
const FONT_SIZE = 12;

/** A map of ranks without numbers: modules down, groups of columns across; darker means more ranks. */
export function rankMap(description: string, groups: readonly RankGroup[]): Markup {
  const columns = groups.flatMap((group) => group.columns);
  const modules = [...new Set(columns.flatMap(({ ranks }) => Object.keys(ranks)))];
  const most = Math.max(1, ...columns.flatMap(({ ranks }) => Object.values(ranks)));
  const names = rowNames(modules);
  const left = 6 + Math.max(0, ...names.map(({ text }) => textWidth(text, FONT_SIZE)));
  const unit = (WIDTH - left - GAP * (groups.length - 1)) / columns.reduce((sum, { width }) => sum + width, 0);
  const high = modules.length > MAX_NAMED ? 8 : 16;
  const outlines = new Map<number, string>();
  const heads: string[] = [];
  let x = left;
  for (const group of groups) {
    const from = x;
    for (const { width, ranks } of group.columns) {
      for (const [row, path] of modules.entries()) {
        const rank = ranks[path] ?? 0;
        const wide = digits(Math.max(0.5, width * unit - 1));
        const cell = `M${digits(x)},${TOP + row * high}h${wide}v${high - 1}h-${wide}z`;
        outlines.set(rank, (outlines.get(rank) ?? '') + cell);
      }
      x += width * unit;
    }
    heads.push(textAt(from, TOP - 6, fitting(group.title, x - from), 'start'));
    x += GAP;
  }
  const shapes = [...outlines].map(
    ([rank, outline]) =>
      `<path d="${outline}" fill="var(--strong)" fill-opacity="${digits(0.05 + (0.95 * rank) / most)}"/>`,
  );
  const labels = names.map(({ row, text }) =>
    textAt(left - 6, TOP + row * high + (modules.length > MAX_NAMED ? 10 : 12), text, 'end'),
  );
  const height = TOP + high * modules.length;
  return trusted(
    `<svg role="img" aria-label="${escapeHtml(description)}" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" font-size="${FONT_SIZE}" fill="var(--soft)">` +
      `${[...heads, ...labels, ...shapes].join('')}</svg>`,
  );
}

function textAt(x: number, y: number, text: string, anchor: 'start' | 'end'): string {
  return `<text x="${digits(x)}" y="${digits(y)}" text-anchor="${anchor}">${escapeHtml(text)}</text>`;
}

/** A label for each module, or one where each layer begins. */
function rowNames(modules: readonly string[]): { row: number; text: string }[] {
  if (modules.length <= MAX_NAMED) {
    const short = shortened(modules);
    return modules.map((path, row) => ({ row, text: short.get(path) ?? path }));
  }
  const layers = modules.map((path) => layerOf(path)?.layer);
  return layers.flatMap((layer, row) =>
    layer !== undefined && layer !== layers[row - 1] ? [{ row, text: `layer ${layer}` }] : [],
  );
}

/** Cuts a text to a width. */
function fitting(text: string, width: number): string {
  if (textWidth(text, FONT_SIZE) <= width) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && textWidth(`${characters.join('')}…`, FONT_SIZE) > width) characters.pop();
  return `${characters.join('')}…`;
}

/** The most columns of a map over time: more would only make the page larger. */
const MAX_STEP_COLUMNS = 24;

/** Charts of the live ranks of every module over the steps, for each arm whose ranks change. */
export function gateFigures(title: string, entries: readonly Entry[]): Block[] {
  return bySeries(entries).flatMap(({ series: { label }, trials }) => {
    const moments = momentsOf(trials);
    const [first, ...later] = moments;
    const hasChanged = ({ ranks }: Moment): boolean =>
      Object.entries(ranks).some(([path, rank]) => rank !== first?.ranks[path]);
    if (!later.some(hasChanged)) return [];
    const most = Math.max(...moments.flatMap(({ ranks }) => Object.values(ranks)));
    const description = `Live ranks of every module of ${label} over training steps on ${title}`;
    const caption = `One line per module, mean over seeds: the fainter, the fewer. The strongest has rank ${Number(most.toFixed(1))}.`;
    const columns = moments.map(({ step, ranks }, at) => ({ width: step - (moments[at - 1]?.step ?? 0), ranks }));
    const group = { title: `steps 1 to ${moments.at(-1)?.step ?? 1}`, columns };
    return figure(`Live ranks over time: ${label}`, caption, () => rankMap(description, [group]));
  });
}

/** Live ranks of every module at one step, averaged over seeds. */
interface Moment {
  readonly step: number;
  readonly ranks: Readonly<Record<string, number>>;
}

function momentsOf(trials: readonly DoneTrial[]): Moment[] {
  const bySteps = trials.map(
    ({ history }) => new Map(history.flatMap(({ step, ranks }) => (ranks ? [[step, ranks] as const] : []))),
  );
  const shared = [...(bySteps[0]?.keys() ?? [])].filter((step) => bySteps.every((steps) => steps.has(step)));
  const stride = Math.ceil(shared.length / MAX_STEP_COLUMNS);
  return shared
    .filter((_, index) => (shared.length - 1 - index) % stride === 0)
    .map((step) => ({ step, ranks: meanOfSeeds(bySteps.map((steps) => steps.get(step) ?? {})) }));
}

function meanOfSeeds(ofSeeds: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const paths = [...new Set(ofSeeds.flatMap((ranks) => Object.keys(ranks)))];
  const meanOf = (path: string): number => ofSeeds.reduce((sum, ranks) => sum + (ranks[path] ?? 0), 0) / ofSeeds.length;
  return Object.fromEntries(paths.map((path) => [path, meanOf(path)]));
}

const MAX_LABEL = 30;

/**
 * Splits e.g. `encoder.layer.3.attention.query` into layer 3 and the rest; undefined unless exactly one part is a
 * number.
 */
function layerOf(path: string): { layer: number; module: string } | undefined {
  const parts = path.split('.');
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  if (at < 0 || parts.findLastIndex((part) => /^\d+$/.test(part)) !== at) return undefined;
  return { layer: Number(parts[at]), module: parts.filter((_, index) => index !== at).join('.') };
}

/** Shortens module paths: removes their common beginning, and the middle of long ones. */
function shortened(paths: readonly string[]): Map<string, string> {
  const split = paths.map((path) => path.split('.'));
  const [first = []] = split;
  const differing = first.findIndex((part, index) =>
    split.some((parts) => parts[index] !== part || parts.length <= index + 1),
  );
  // A number alone is unclear: `layer.0.query` rather than `0.query`.
  const from = Math.max(0, /^\d+$/.test(first[differing] ?? '') ? differing - 1 : differing);
  const short = split.map((parts) => middleOut(parts.slice(from).join('.')));
  const distinct = new Set(short).size === paths.length;
  return new Map(paths.map((path, index) => [path, distinct ? (short[index] as string) : path]));
}

function middleOut(text: string): string {
  if (text.length <= MAX_LABEL) return text;
  return `${text.slice(0, MAX_LABEL / 2 - 1)}…${text.slice(-MAX_LABEL / 2)}`;
}
