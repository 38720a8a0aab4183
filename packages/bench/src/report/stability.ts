import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { cell, details, figure, grid, heading, note, table, type Block, type Cell, type Column } from './blocks.js';
import { rankMap } from './charts/ranks.js';
import { counted, formatInterval, formatMetric, formatSigned } from '@peftjs/cli/format';
import { by, grouped } from './statistics/comparisons.js';
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
    const ofTasks = grouped([...trials].sort(by(taskOf, seedOf)), taskOf).map((ofTask) => ({
      title: ofTask[0].task,
      columns: ofTask.map(({ ranks }) => ({ width: 1, ranks })),
    }));
    return figure(title, '', () => rankMap(`Ranks by module, task and seed: ${title}`, ofTasks));
  });
  return [
    heading('What decides which ranks are kept?'),
    note(TABLE_NOTE),
    table(columnsOf(severalModels), stability, 'cards'),
    details('Ranks of every trial', [note(MAP_NOTE, 'page'), grid(maps)], true),
  ];
}

const taskOf = ({ task }: DoneTrial): string => task;
const seedOf = ({ seed }: DoneTrial): number => seed;
