import { bySeries, type Entry } from '../contents.js';
import { layerOf, shortened } from './modules.js';
import { textWidth, type Chart } from './svg.js';
import { WIDTH } from './theme.js';

/** Above this many modules a method gets a grid of its own: layers down, modules across. */
const MAX_ROWS = 28;

/** A cell of the heat map. */
interface Cell {
  readonly row: string;
  readonly column: string;
  readonly rank: number;
}

/** A map of ranks, and what it is of. */
interface RankMap {
  readonly about: string;
  readonly caption: string;
  readonly chart: Chart;
}

/** Live ranks at the selected checkpoints, mean over seeds; one map, or one per arm where there are many modules. */
export function rankCharts(title: string, entries: readonly Entry[]): RankMap[] {
  const ranked = bySeries(entries)
    .map((entry) => ({ label: entry.series.label, ranks: meanRanks(entry) }))
    .filter(({ ranks }) => ranks.size > 0);
  const paths = [...new Set(ranked.flatMap(({ ranks }) => [...ranks.keys()]))];
  if (paths.length === 0) return [];
  const most = Math.max(...ranked.flatMap(({ ranks }) => [...ranks.values()]));
  if (paths.length > MAX_ROWS && paths.every((path) => layerOf(path) !== undefined)) {
    return ranked.filter(({ ranks }) => !isEven(ranks)).map(({ label, ranks }) => layerMap(title, label, ranks, most));
  }
  const labels = shortened(paths);
  const cells = ranked.flatMap(({ label, ranks }) =>
    [...ranks].map(([path, rank]) => ({ row: labels.get(path) ?? path, column: label, rank })),
  );
  return [
    {
      about: 'Rank per module',
      caption: 'modules down, arms across',
      chart: heatMap(`Rank per module and arm on ${title}`, cells, most),
    },
  ];
}

/** One arm: layers down, modules across. */
function layerMap(title: string, label: string, ranks: ReadonlyMap<string, number>, most: number): RankMap {
  return {
    about: `Rank per module: ${label}`,
    caption: 'layers down, modules across',
    chart: heatMap(`Rank per module of ${label} on ${title}`, layerCells(ranks), most),
  };
}

/** The same rank everywhere needs no map. */
function isEven(ranks: ReadonlyMap<string, number>): boolean {
  return new Set(ranks.values()).size === 1;
}

function heatMap(description: string, cells: readonly Cell[], most: number): Chart {
  const columns = [...new Set(cells.map(({ column }) => column))];
  const crowded = columns.some((column) => textWidth(column, 13) > 240 / columns.length);
  const axis = { ticks: false, domain: false, labelColor: 'var(--ink)', grid: false };
  const x = {
    field: 'column',
    title: null,
    sort: null,
    axis: { ...axis, orient: 'top', labelAngle: crowded ? -90 : 0 },
  };
  const y = { field: 'row', title: null, sort: null, axis };
  return {
    description: `${description}: ${cells
      .map(({ row, column, rank }) => `${column} ${row} ${rankText(rank)}`)
      .join(', ')
      .slice(0, 1500)}`,
    spec: {
      width: WIDTH,
      height: 24 * new Set(cells.map(({ row }) => row)).size,
      autosize: { type: 'fit-x', contains: 'padding' },
      data: {
        values: cells.map((cell) => ({ ...cell, ...paint(cell.rank / (most || 1)), text: rankText(cell.rank) })),
      },
      encoding: { x: { type: 'nominal', ...x }, y: { type: 'nominal', ...y } },
      layer: [
        {
          mark: { type: 'rect', color: 'var(--strong)', stroke: 'var(--paper)', strokeWidth: 2 },
          encoding: { fillOpacity: { field: 'opacity', type: 'quantitative', scale: null } },
        },
        {
          mark: { type: 'text' },
          encoding: { text: { field: 'text' }, color: { field: 'ink', type: 'nominal', scale: null } },
        },
      ],
    } as Chart['spec'],
  };
}

/** The darker, the more of the largest rank; the figure stays readable on it. */
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

function layerCells(ranks: ReadonlyMap<string, number>): Cell[] {
  const cells = [...ranks].map(([path, rank]) => ({ ...(layerOf(path) as { layer: number; module: string }), rank }));
  const labels = shortened([...new Set(cells.map(({ module }) => module))]);
  return cells
    .sort((a, b) => a.layer - b.layer)
    .map(({ layer, module, rank }) => ({ row: `layer ${layer}`, column: labels.get(module) ?? module, rank }));
}
