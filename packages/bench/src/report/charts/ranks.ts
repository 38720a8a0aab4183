import type { DoneTrial } from '@peftjs/cli/results';
import { figure, type Block } from '../blocks.js';
import { bySeries, type Entry } from '../contents.js';
import { HEIGHT, layered, plain, quantity, textWidth, WIDTH, type Chart } from './draw.js';

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

/** The most columns of the map: more would only make the page larger. */
const MAX_STEP_COLUMNS = 24;

/** Live ranks of every module at one step, averaged over seeds. */
interface Moment {
  /** The step. */
  readonly step: number;
  /** Mean ranks by module path. */
  readonly ranks: ReadonlyMap<string, number>;
}

/** Charts of the live ranks of every module over the steps, for each arm whose ranks change. */
export function gateFigures(title: string, entries: readonly Entry[]): Block[] {
  return bySeries(entries).flatMap(({ series: { label }, trials }) => {
    const moments = momentsOf(trials);
    if (!changes(moments)) return [];
    const most = Math.max(...moments.flatMap(({ ranks }) => [...ranks.values()]));
    const description = `Live ranks of every module of ${label} over training steps on ${title}`;
    const caption = `One line per module, mean over seeds: the fainter, the fewer. The strongest has rank ${Number(most.toFixed(1))}.`;
    return figure(`Live ranks over time: ${label}`, caption, () => ({ description, spec: mapSpec(moments, most) }));
  });
}

function momentsOf(trials: readonly DoneTrial[]): Moment[] {
  const bySteps = trials.map(
    ({ history }) => new Map(history.flatMap(({ step, ranks }) => (ranks ? [[step, ranks] as const] : []))),
  );
  const shared = [...(bySteps[0]?.keys() ?? [])].filter((step) => bySteps.every((steps) => steps.has(step)));
  return thinned(shared).map((step) => ({ step, ranks: meanOfSeeds(bySteps.map((steps) => steps.get(step) ?? {})) }));
}

function thinned(steps: readonly number[]): number[] {
  const stride = Math.ceil(steps.length / MAX_STEP_COLUMNS);
  return steps.filter((_, index) => (steps.length - 1 - index) % stride === 0);
}

function meanOfSeeds(ofSeeds: readonly Readonly<Record<string, number>>[]): Map<string, number> {
  const paths = [...new Set(ofSeeds.flatMap((ranks) => Object.keys(ranks)))];
  const meanOf = (path: string): number => ofSeeds.reduce((sum, ranks) => sum + (ranks[path] ?? 0), 0) / ofSeeds.length;
  return new Map(paths.map((path) => [path, meanOf(path)]));
}

function changes(moments: readonly Moment[]): boolean {
  const [first, ...later] = moments;
  return (
    first !== undefined && later.some(({ ranks }) => [...ranks].some(([path, rank]) => rank !== first.ranks.get(path)))
  );
}

function mapSpec(moments: readonly Moment[], most: number): Chart['spec'] {
  const modules = [...new Set(moments.flatMap(({ ranks }) => [...ranks.keys()]))];
  const last = moments.at(-1)?.step ?? 1;
  const cells = moments.flatMap(({ step, ranks }, index) =>
    modules.map((path, row) => ({
      from: moments[index - 1]?.step ?? 0,
      to: step,
      row,
      below: row + 1,
      opacity: 0.04 + (0.96 * (ranks.get(path) ?? 0)) / (most || 1),
    })),
  );
  const rows = { scale: { domain: [0, modules.length], reverse: true, nice: false }, title: null };
  const encoding = {
    x: quantity('from', { title: 'step', scale: { domain: [0, last], nice: false } }),
    x2: { field: 'to' },
    y: quantity('row', { ...rows, axis: { ...layerTicks(modules), grid: false } }),
    y2: { field: 'below' },
    fillOpacity: plain('opacity', 'quantitative'),
  };
  const layer = { mark: { type: 'rect', color: 'var(--strong)' } };
  return layered({ width: WIDTH, height: HEIGHT }, encoding, [layer], { values: joined(cells) });
}

/** The rank of one module over an interval of steps. */
interface TimeCell {
  readonly from: number;
  readonly to: number;
  readonly row: number;
  readonly opacity: number;
}

/** Merges cells of the same module and rank that follow each other in time, which keeps the page small. */
function joined<Each extends TimeCell>(cells: readonly Each[]): Each[] {
  const kept: Each[] = [];
  const byRow = [...cells].sort((a, b) => a.row - b.row || a.from - b.from);
  for (const cell of byRow) {
    const before = kept.at(-1);
    if (before?.row === cell.row && before.opacity === cell.opacity) kept[kept.length - 1] = { ...before, to: cell.to };
    else kept.push(cell);
  }
  return kept;
}

/** Axis ticks where layers begin, with the layers' numbers; none if the paths have no layers. */
function layerTicks(modules: readonly string[]): object {
  const layers = modules.map((path) => layerOf(path)?.layer);
  const starts = layers.flatMap((layer, row) => (layer !== undefined && layer !== layers[row - 1] ? [row] : []));
  const labels = starts.map((row) => `layer ${layers[row] as number}`);
  return {
    values: starts,
    labelExpr: `${JSON.stringify(labels)}[indexof(${JSON.stringify(starts)}, datum.value)]`,
    labelBaseline: 'top',
    domain: false,
    ticks: false,
  };
}

const MAX_LABEL = 30;

/**
 * Splits e.g. `encoder.layer.3.attention.query` into layer 3 and the rest; undefined unless exactly one part is a
 * number.
 */
export function layerOf(path: string): { layer: number; module: string } | undefined {
  const parts = path.split('.');
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  if (at < 0 || parts.findLastIndex((part) => /^\d+$/.test(part)) !== at) return undefined;
  return { layer: Number(parts[at]), module: parts.filter((_, index) => index !== at).join('.') };
}

/** Shortens module paths: removes their common beginning, and the middle of long ones. */
export function shortened(paths: readonly string[]): Map<string, string> {
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
