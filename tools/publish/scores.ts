import type { Summary } from '@peftjs/bench';

/** A row of the summary, of one task or over all tasks. */
type Scored = Pick<Summary['overall'][number], 'label' | 'budget' | 'score' | 'difference' | 'baseline'>;

/** The rows of a summary that are tabulated. */
type Rows = Pick<Summary, 'rows' | 'overall'>;

/** Returns the tables of a run, model by model. */
export function scoresOf({ rows, overall }: Rows): string {
  const models = [...new Set(rows.map(({ model }) => model))];
  const sections = models.map((model) => {
    const tables = tablesOf({
      rows: rows.filter((row) => row.model === model),
      overall: overall.filter((row) => row.model === model),
    });
    return models.length > 1 ? `### ${model}\n\n${tables}` : tables;
  });
  return sections.join('\n\n');
}

/** Returns the tables of a model: one if several tasks share a budget, else one over all tasks, then one for each. */
function tablesOf({ rows, overall }: Rows): string {
  const tasks = [...new Set(rows.map(({ task }) => task))].map((task) => rows.filter((row) => row.task === task));
  if (tasks.length > 1 && budgetsOf(rows).length === 1) return taskTable(tasks, overall);
  const sections = tasks.map((ofTask) => {
    const [{ task, metric, lowerIsBetter } = { task: '', metric: '', lowerIsBetter: false }] = ofTask;
    return `**${task}**, ${metric}:\n\n${scoreTable(ofTask, lowerIsBetter)}`;
  });
  return [...(tasks.length > 1 ? [`**Mean over the tasks**:\n\n${scoreTable(overall)}`] : []), ...sections].join(
    '\n\n',
  );
}

/**
 * Returns a table with a row per arm, best first, and a column per task: the mean and, in brackets, its difference from
 * the reference.
 */
function taskTable(tasks: readonly Summary['rows'][], overall: Summary['overall']): string {
  const columns: readonly (readonly Scored[])[] = [overall, ...tasks];
  const arms = overall.toSorted((a, b) => (b.score.mean - a.score.mean) * (a.lowerIsBetter ? -1 : 1));
  const cell = (label: string, column: readonly Scored[]): string => {
    const row = column.find((each) => each.label === label);
    if (!row) return '';
    const { score, difference } = row;
    return difference ? `${digits(score.mean)} (${signed(difference.mean)})` : digits(score.mean);
  };
  return [
    `| arm | mean | ${tasks.map(([row]) => row?.task).join(' | ')} |`,
    `| --- |${columns.map(() => ' --: |').join('')}`,
    ...arms.map(({ label }) => `| ${label} | ${columns.map((column) => cell(label, column)).join(' | ')} |`),
  ].join('\n');
}

/** Returns the budgets of rows, without those of arms that have none. */
function budgetsOf(rows: readonly Scored[]): string[] {
  return [...new Set(rows.map(({ budget }) => budget.spec))].filter((spec) => spec !== 'none');
}

/**
 * Returns a table with a row per arm and a column per budget: the mean with its 95 % interval, the best of each budget
 * in bold. Arms without a budget come first.
 */
function scoreTable(rows: readonly Scored[], lowerIsBetter = false): string {
  const budgets = budgetsOf(rows);
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

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${digits(value)}`;
}
