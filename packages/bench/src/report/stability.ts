import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { cell, details, figure, grid, heading, note, table, type Block, type Cell, type Column } from './blocks.js';
import { digits, IMAGE_LABEL, imageOf, textAt, textWidth, WIDTH } from './charts/draw.js';
import { layerOf, shortened } from './charts/ranks.js';
import { counted, formatInterval, formatMetric, formatSigned } from '@peftjs/cli/format';
import type { Markup } from './html.js';
import { by } from './statistics/comparisons.js';
import type { Agreement, StabilityRow } from './statistics/stability.js';
import type { Summary } from './statistics/summary.js';

/** Explains how to read the table. */
const TABLE_NOTE =
  'Arms that are missing here ended with the same rank in every module. For the others: how similar the ranks by module are between two seeds of one task, and between two tasks of one seed. Pearson’s correlation comes first, then the Jaccard index: the sum of the smaller ranks over the sum of the larger. The difference is between the correlations, seeds minus tasks; if its 95 % jackknife interval over the seeds excludes 0, the last column says which agree more.';

/** The columns of the table; models are named if there are several. */
function columnsOf(severalModels: boolean): Column<StabilityRow>[] {
  return [
    { title: 'arm', cell: ({ label, model }) => (severalModels ? cell(label, model) : cell(label)) },
    { title: 'budget', cell: ({ budget }) => cell(budget.requested === null ? 'none' : budget.spec) },
    { title: 'seeds of one task', cell: ({ betweenSeeds }) => agreementCell(betweenSeeds) },
    { title: 'tasks of one seed', cell: ({ betweenTasks }) => agreementCell(betweenTasks) },
    { title: 'difference', cell: differenceCell },
    { title: 'conclusion', cell: (row) => cell(sayingOf(row)) },
  ];
}

function agreementCell({ pairs, uncorrelated, correlation, jaccard }: Agreement): Cell {
  if (pairs === 0) return cell('–');
  const count = counted(pairs, 'pair').replace(' ', '\u00a0');
  const left = uncorrelated === 0 ? '' : `, ${uncorrelated} without a\u00a0correlation`;
  return cell(formatMetric(correlation), `Jaccard\u00a0${formatMetric(jaccard)};\u00a0${count}${left}`);
}

function differenceCell({ difference }: StabilityRow): Cell {
  if (difference === null) return cell('–');
  const { mean, interval } = difference;
  return cell(formatSigned(mean), ...(interval ? [formatInterval(interval, formatSigned)] : []));
}

/** The fewest seeds for an interval: leaving one out must leave pairs. */
const SEEDS_FOR_INTERVAL = 3;

/** The verdict of a row, in a sentence. */
function sayingOf({ verdict, betweenSeeds, betweenTasks, seeds }: StabilityRow): string {
  if (verdict === 'same') return 'Every trial kept the same ranks.';
  if (verdict === 'task') return 'Seeds agree more than tasks do: the choice follows the task.';
  if (verdict === 'draw') {
    return 'Tasks of one seed agree more than seeds of one task: the initial draw decides.';
  }
  if (betweenTasks.pairs === 0) return 'Open: no two tasks share a seed.';
  if (betweenSeeds.pairs === 0) return 'Open: no two seeds share a task.';
  return seeds.length < SEEDS_FOR_INTERVAL
    ? `Open: at least ${SEEDS_FOR_INTERVAL} seeds are needed.`
    : 'Open: the difference is not significant.';
}

const MAP_NOTE =
  'Modules down, trials across, the seeds of one task side by side: the darker, the more ranks. Columns that are alike within a task follow the task; a pattern that comes again from task to task follows the seed.';

/**
 * The section on whether the task or the seed decides which ranks are kept, with a row for each adaptive arm and
 * budget; empty if there is none.
 */
export function stabilityBlocks(results: readonly TrialResult[], { stability, rows }: Summary): Block[] {
  if (stability.length === 0) return [];
  const severalModels = new Set(stability.map(({ model }) => model)).size > 1;
  const done = new Map(results.flatMap((result) => (result.status === 'done' ? [[result.id, result]] : [])));
  const maps = stability.map(({ model, label, budget }) => {
    const own = rows.filter((row) => row.model === model && row.label === label && row.budget.spec === budget.spec);
    const trials = own.flatMap((row) => row.trials.flatMap((id) => done.get(id) ?? []));
    const at = budget.requested === null ? label : `${label}, ${budget.spec}`;
    const title = severalModels ? `${at} · ${model}` : at;
    return figure(title, '', () => choiceMap(`Ranks by module, task and seed: ${title}`, trials));
  });
  return [
    heading('What decides which ranks are kept?'),
    note(TABLE_NOTE),
    table(columnsOf(severalModels), stability, 'cards'),
    details('Ranks of every trial', [note(MAP_NOTE, 'page'), grid(maps)], true),
  ];
}

/** With at most this many modules, each has its name; otherwise only layers are named. */
const MAX_NAMED = 16;
/** The gap between the columns of two tasks, in px. */
const GAP = 8;
const TOP = 20;

/** One column: the final ranks of one trial. */
type Trial = Pick<DoneTrial, 'task' | 'seed' | 'ranks'>;

/**
 * A map of the modules that keep ranks in every trial of an arm: modules down, trials across, with one block of seeds
 * per task; darker means more ranks. Columns that are alike within a block depend on the task, columns that repeat
 * across blocks on the seed.
 */
function choiceMap(description: string, trials: readonly Trial[]): Markup {
  const modules = [...new Set(trials.flatMap(({ ranks }) => Object.keys(ranks)))];
  const columns = [...trials].sort(
    by(
      ({ task }) => task,
      ({ seed }) => seed,
    ),
  );
  const tasks = [...new Set(columns.map(({ task }) => task))];
  const names = rowNames(modules);
  const left = 6 + Math.max(0, ...names.map(({ text }) => textWidth(text, IMAGE_LABEL)));
  const [wide, high] = [
    (WIDTH - left - GAP * (tasks.length - 1)) / columns.length,
    modules.length > MAX_NAMED ? 8 : 16,
  ];
  const height = TOP + high * modules.length;
  const at = (column: number): number => left + column * wide + GAP * tasks.indexOf(columns[column]?.task ?? '');
  const most = Math.max(1, ...columns.flatMap(({ ranks }) => Object.values(ranks)));
  const cells = columns.flatMap(({ ranks }, column) =>
    modules.map((path, row) => ({ rank: ranks[path] ?? 0, x: at(column), y: TOP + row * high })),
  );
  const levels = [...new Set(cells.map(({ rank }) => rank))].sort((a, b) => a - b);
  const shapes = levels.map((level) => {
    const outline = cells
      .filter(({ rank }) => rank === level)
      .map(({ x, y }) => `M${digits(x)},${digits(y)}h${digits(wide - 1)}v${high - 1}h-${digits(wide - 1)}z`);
    return `<path d="${outline.join('')}" fill="var(--strong)" fill-opacity="${digits(0.05 + (0.95 * level) / most)}"/>`;
  });
  const heads = tasks.map((task) => {
    const own = columns.flatMap((each, column) => (each.task === task ? [column] : []));
    const from = at(own[0] ?? 0);
    return textAt(from, TOP - 6, fitting(task, at(own.at(-1) ?? 0) + wide - from), 'start');
  });
  const labels = names.map(({ row, text }) =>
    textAt(left - 6, TOP + row * high + (modules.length > MAX_NAMED ? 10 : 12), text, 'end'),
  );
  return imageOf(description, { width: WIDTH, height }, [...heads, ...labels, ...shapes]);
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
  if (textWidth(text, IMAGE_LABEL) <= width) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && textWidth(`${characters.join('')}…`, IMAGE_LABEL) > width) characters.pop();
  return `${characters.join('')}…`;
}
