import type { Arm } from './arms.js';
import { agreement, average, recovery, type Average } from './measures.js';
import type { Outcome, StudentSettings } from './student.js';
import type { Ranks } from './allocations.js';
import type { TaskSettings } from './tasks.js';

/** The result of one student on one task, as stored in `--out`. */
export interface RunRecord {
  /** The arm. */
  readonly arm: Arm;
  /** The task's settings. */
  readonly task: TaskSettings;
  /** The student's settings. */
  readonly student: StudentSettings;
  /** The true rank of every module. */
  readonly truth: Ranks;
  /** The kept ranks and the measures. */
  readonly outcome: Outcome;
}

const COLUMNS = [
  'arm',
  'labels',
  'noise',
  'steps',
  'allocation',
  'runs',
  'correlation',
  'F1',
  'module F1',
  'loss',
  'accuracy',
];
const AGREEMENT = ['between seeds', 'between tasks (of the truth)'];

/**
 * Returns a Markdown table with a line for each arm and task over the seeds, and with several tasks also one over all
 * of them.
 */
export function table(runs: readonly RunRecord[]): string {
  const conditions = groups(runs, ({ task, student }) => [
    task.labels,
    task.noise,
    student.steps,
    task.effect,
    task.rows,
  ]);
  const lines = conditions.flatMap((ofCondition) =>
    groups(ofCondition, ({ arm }) => [arm]).flatMap((ofArm) => {
      const tasks = groups(ofArm, ({ task }) => [task]);
      return [...tasks.map((own) => line(own, [own])), ...(tasks.length > 1 ? [line(ofArm, tasks)] : [])];
    }),
  );
  const header = [...COLUMNS, ...AGREEMENT];
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Returns the cells of a line. @param tasks the same runs by task */
function line(runs: readonly RunRecord[], tasks: readonly (readonly RunRecord[])[]): string[] {
  const { arm, task, student } = runs[0] as RunRecord;
  const found = runs.map(({ outcome, truth }) => recovery(outcome.ranks, truth));
  const keptIn = (own: readonly RunRecord[]): Ranks[] => own.map(({ outcome }) => outcome.ranks);
  const bySeed = groups(runs, ({ student: { seed } }) => [seed]);
  const betweenSeeds = average(tasks.map((own) => agreement(keptIn(own))));
  const betweenTasks = average(bySeed.map((own) => agreement(keptIn(own))));
  const ofTruth = agreement(tasks.map((own) => (own[0] as RunRecord).truth));
  return [
    arm.name,
    task.labels,
    String(task.noise),
    String(student.steps),
    tasks.length === 1 ? `${task.allocation} ${task.teacher}` : 'all',
    String(runs.length),
    shown(average(found.map(({ correlation }) => correlation)), 2),
    shown(average(found.map(({ f1 }) => f1)), 2),
    shown(average(found.map(({ moduleF1 }) => moduleF1)), 2),
    shown(average(runs.map(({ outcome }) => outcome.loss)), 3),
    shown(average(runs.map(({ outcome }) => outcome.accuracy)), 3),
    betweenSeeds ? betweenSeeds.mean.toFixed(2) : '-',
    betweenTasks && ofTruth !== null ? `${betweenTasks.mean.toFixed(2)} (${ofTruth.toFixed(2)})` : '-',
  ];
}

function shown(value: Average | null, digits: number): string {
  return value ? `${value.mean.toFixed(digits)} ± ${value.error.toFixed(digits)}` : '-';
}

/** Groups items with equal keys, in order of first appearance. */
function groups<T>(items: readonly T[], keyOf: (item: T) => unknown): T[][] {
  const found = new Map<string, T[]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    found.set(key, [...(found.get(key) ?? []), item]);
  }
  return [...found.values()];
}
