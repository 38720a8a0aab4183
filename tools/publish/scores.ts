import type { Summary } from '@peftjs/bench';

/** A row of the summary, of one task or over all tasks. */
type Scored = Pick<Summary['overall'][number], 'label' | 'budget' | 'score' | 'difference' | 'baseline'>;

/** Returns the tables of a run: over all tasks if there are several, then of each task. */
export function scoresOf({ rows, overall }: Pick<Summary, 'rows' | 'overall'>): string {
  const tasks = [...new Set(rows.map(({ task }) => task))].map((task) => rows.filter((row) => row.task === task));
  const sections = tasks.map((ofTask) => {
    const [{ task, metric, lowerIsBetter } = { task: '', metric: '', lowerIsBetter: false }] = ofTask;
    return `**${task}**, ${metric}:\n\n${scoreTable(ofTask, lowerIsBetter)}`;
  });
  return [...(tasks.length > 1 ? [`**Mean over the tasks**:\n\n${scoreTable(overall)}`] : []), ...sections].join(
    '\n\n',
  );
}

/**
 * Returns a table with a row per arm and a column per budget: the mean with its 95 % interval, the best of each budget
 * in bold. Arms without a budget come first.
 */
function scoreTable(rows: readonly Scored[], lowerIsBetter = false): string {
  const budgets = [...new Set(rows.map(({ budget }) => budget.spec))].filter((spec) => spec !== 'none');
  const arms = [...new Set(rows.map(({ label }) => label))];
  const cell = (arm: string, spec: string): string => {
    const row = rows.find(({ label, budget }) => label === arm && budget.spec === spec);
    return row ? emphasised(row, rows, lowerIsBetter) : '';
  };
  const columns = rows.some(({ budget }) => budget.spec === 'none') ? ['none', ...budgets] : budgets;
  return [
    `| arm | ${columns.map((spec) => (spec === 'none' ? 'no budget' : spec)).join(' | ')} |`,
    `| --- |${columns.map(() => ' --: |').join('')}`,
    ...arms.map((arm) => `| ${arm} | ${columns.map((spec) => cell(arm, spec)).join(' | ')} |`),
  ].join('\n');
}

function emphasised(row: Scored, rows: readonly Scored[], lowerIsBetter: boolean): string {
  const { mean, interval } = row.score;
  const text = interval ? `${digits(mean)} [${digits(interval.low)}, ${digits(interval.high)}]` : digits(mean);
  const rivals = rows.filter(({ budget, baseline }) => budget.spec === row.budget.spec && !baseline);
  const best = (lowerIsBetter ? Math.min : Math.max)(...rivals.map(({ score }) => score.mean));
  return row.budget.spec !== 'none' && mean === best ? `**${text}**` : text;
}

function digits(value: number): string {
  return value.toFixed(3).replace('-', '−');
}
