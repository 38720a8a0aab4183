import type { TrialResult, TrialTuning } from '@peftjs/cli/results';
import { cell, heading, note, table, type Block, type Cell, type Column } from './blocks.js';
import { formatMetric, formatSmall } from '@peftjs/cli/format';
import { by, grouped } from './statistics/comparisons.js';

/** The tuning of an arm, with the tasks that it was for. */
interface TunedRow extends TrialTuning {
  /** The name of the arm. */
  readonly label: string;
  /** The tasks. */
  readonly tasks: readonly string[];
  /** The budgets that the rate was chosen for, where each was tuned by itself. */
  readonly budgets: readonly string[];
}

/** The tuning of every arm, each distinct one once; empty if nothing was tuned. */
function tunedRows(results: readonly TrialResult[]): TunedRow[] {
  const tuned = results.flatMap(({ arm, task, tuning, budget: { spec } }) =>
    tuning ? [{ arm, task, tuning, spec }] : [],
  );
  const rows = grouped(tuned, ({ arm, tuning }) => [arm, tuning]).map((same) => ({
    label: same[0].arm,
    tasks: [...new Set(same.map(({ task }) => task))],
    budgets: [...new Set(same.map(({ spec }) => spec))],
    ...same[0].tuning,
  }));
  const isAlone = ({ label, tasks }: TunedRow): boolean =>
    rows.filter((row) => row.label === label && row.tasks.some((task) => tasks.includes(task))).length === 1;
  return rows.map((row) => ({ ...row, ...(isAlone(row) && { budgets: [] }) })).sort(by(({ label }) => label));
}

/** The chosen rate, and of how many that differ by no more than noise. */
function choiceCell({ chosen, tried, tied = [] }: TunedRow): Cell {
  if (chosen === null)
    return cell(tried.some(({ score }) => score !== null) ? 'none: a process died' : 'none: every one failed');
  const { length } = tied;
  return cell(
    formatSmall(chosen),
    ...(length > 1 ? [`the ${length === 2 ? 'lower' : 'middle'} of ${length} within noise`] : []),
  );
}

/** The section on the learning rates that were tried for each arm, and the chosen ones; empty if nothing was tuned. */
export function tuningBlocks(results: readonly TrialResult[]): Block[] {
  const rows = tunedRows(results);
  if (rows.length === 0) return [];
  return [
    heading('Learning rates tried'),
    note(
      'As many for every arm, scored on the rows that select, with seeds of their own. ± is one standard error of the difference to the best, paired over seeds and rows and unknown for one seed; of the rates within it, the middle one is chosen.',
    ),
    table(columnsOf(rows), rows, 'matrix'),
  ];
}

/** A column for each learning rate of the grids, from the smallest; empty in the rows of arms whose grid lacks it. */
function columnsOf(rows: readonly TunedRow[]): Column<TunedRow>[] {
  const rates = new Set(rows.flatMap(({ tried }) => tried.map(({ learningRate }) => learningRate)));
  const ofRates = [...rates]
    .sort((a, b) => a - b)
    .map((rate): Column<TunedRow> => ({
      title: formatSmall(rate),
      cell: ({ tried, chosen }) => {
        const found = tried.find(({ learningRate }) => learningRate === rate);
        const text = found ? (found.score === null ? 'failed' : formatMetric(found.score)) : '';
        const error = found?.standardError ?? null;
        const details = error === null ? [] : [`± ${formatMetric(error)}`];
        return { ...cell(text, ...details), look: rate === chosen ? 'chosen' : 'tried' };
      },
    }));
  return [
    { title: '', cell: ({ label, tasks, budgets }) => cell(label, [...budgets, ...tasks].join(', ')) },
    { title: 'chosen', cell: choiceCell },
    ...ofRates,
  ];
}
