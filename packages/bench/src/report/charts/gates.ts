import type { DoneTrial } from '../../results/schema.js';
import { bySeries, type Entry } from '../contents.js';
import { layerOf } from './modules.js';
import type { Chart } from './svg.js';
import { WIDTH } from './theme.js';

const HEIGHT = 264;
/** Columns of the map at most: with more, seeds and modules are still told apart but the page grows. */
const MOST_COLUMNS = 24;

/** Live ranks of every module at one step, mean over seeds. */
interface Moment {
  readonly step: number;
  readonly ranks: ReadonlyMap<string, number>;
}

/** Live ranks of every module over the steps, for each arm whose ranks change. */
export function gateCharts(title: string, entries: readonly Entry[]): { about: string; most: number; chart: Chart }[] {
  return bySeries(entries)
    .map(({ series, trials }) => ({ series, moments: momentsOf(trials) }))
    .filter(({ moments }) => changes(moments))
    .map(({ series, moments }) => {
      const most = Math.max(...moments.flatMap(({ ranks }) => [...ranks.values()]));
      const description = `Live ranks of every module of ${series.label} over training steps on ${title}`;
      return { about: series.label, most, chart: { description, spec: mapSpec(moments, most) } };
    });
}

function momentsOf(trials: readonly DoneTrial[]): Moment[] {
  const bySteps = trials.map(
    ({ history }) => new Map(history.flatMap(({ step, ranks }) => (ranks ? [[step, ranks] as const] : []))),
  );
  const shared = [...(bySteps[0]?.keys() ?? [])].filter((step) => bySteps.every((steps) => steps.has(step)));
  return thinned(shared).map((step) => ({ step, ranks: meanRanks(bySteps.map((steps) => steps.get(step) ?? {})) }));
}

function thinned(steps: readonly number[]): number[] {
  const stride = Math.ceil(steps.length / MOST_COLUMNS);
  return steps.filter((_, index) => (steps.length - 1 - index) % stride === 0);
}

function meanRanks(ofSeeds: readonly Readonly<Record<string, number>>[]): Map<string, number> {
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
  const y = { field: 'row', type: 'quantitative', scale: { domain: [0, modules.length], reverse: true, nice: false } };
  return {
    width: WIDTH,
    height: HEIGHT,
    autosize: { type: 'fit', contains: 'padding' },
    data: { values: joined(cells) },
    mark: { type: 'rect', color: 'var(--strong)' },
    encoding: {
      x: { field: 'from', type: 'quantitative', title: 'step', scale: { domain: [0, last], nice: false } },
      x2: { field: 'to' },
      y: { ...y, title: null, axis: { ...layerTicks(modules), grid: false } },
      y2: { field: 'below' },
      fillOpacity: { field: 'opacity', type: 'quantitative', scale: null },
    },
  } as Chart['spec'];
}

interface Cell {
  readonly from: number;
  readonly to: number;
  readonly row: number;
  readonly opacity: number;
}

/** Neighbours in time of one rank as one cell: the page stays small. */
function joined<Each extends Cell>(cells: readonly Each[]): Each[] {
  const kept: Each[] = [];
  const byRow = [...cells].sort((a, b) => a.row - b.row || a.from - b.from);
  for (const cell of byRow) {
    const before = kept.at(-1);
    if (before?.row === cell.row && before.opacity === cell.opacity) kept[kept.length - 1] = { ...before, to: cell.to };
    else kept.push(cell);
  }
  return kept;
}

/** A tick where a layer begins, with its number; none where paths name no layers. */
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
