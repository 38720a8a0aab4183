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
  return [
    ...(tasks.length > 1 ? [`**Mean over the tasks**:\n\n${scoreTable(overall, overall[0]?.lowerIsBetter)}`] : []),
    ...sections,
  ].join('\n\n');
}

/**
 * Returns a table with a row per arm, best first, and a column per task: the mean and, in brackets, its difference from
 * the reference.
 */
function taskTable(tasks: readonly Summary['rows'][], overall: Summary['overall']): string {
  const arms = overall.toSorted((a, b) => (b.score.mean - a.score.mean) * (a.lowerIsBetter ? -1 : 1));
  const column = (title: string, rows: readonly Scored[]): Column => ({
    title,
    cell: (arm) => {
      const row = rows.find(({ label }) => label === arm);
      return row ? withDifference(row) : '';
    },
  });
  return table(
    arms.map(({ label }) => label),
    [column('mean', overall), ...tasks.map((ofTask) => column(ofTask[0]?.task ?? '', ofTask))],
  );
}

/**
 * Returns a table with a row per arm and a column per budget: the mean with its 95 % interval, the best of each budget
 * in bold. Arms without a budget come first.
 */
function scoreTable(rows: readonly Scored[], lowerIsBetter = false): string {
  const arms = [...new Set(rows.map(({ label }) => label))];
  const column = (title: string, spec: string): Column => ({
    title,
    cell: (arm) => {
      const row = rows.find(({ label, budget }) => label === arm && budget.spec === spec);
      return row ? emphasised(row, rows, lowerIsBetter) : '';
    },
  });
  const open = rows.some(({ budget }) => budget.spec === 'none') ? [column('no budget', 'none')] : [];
  return table(arms, [...open, ...budgetsOf(rows).map((spec) => column(spec, spec))]);
}

/** Returns the budgets of rows, without those of arms that have none. */
function budgetsOf(rows: readonly Scored[]): string[] {
  return [...new Set(rows.map(({ budget }) => budget.spec))].filter((spec) => spec !== 'none');
}

/** A column of a table of arms. */
interface Column {
  readonly title: string;
  readonly cell: (arm: string) => string;
}

function table(arms: readonly string[], columns: readonly Column[]): string {
  return [
    `| arm | ${columns.map(({ title }) => title).join(' | ')} |`,
    `| --- |${columns.map(() => ' --: |').join('')}`,
    ...arms.map((arm) => `| ${arm} | ${columns.map(({ cell }) => cell(arm)).join(' | ')} |`),
  ].join('\n');
}

function withDifference({ score, difference }: Scored): string {
  return difference ? `${digits(score.mean)} (${signed(difference.mean)})` : digits(score.mean);
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
