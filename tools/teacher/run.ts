/*
 *   npx tsx --conditions @peftjs/source tools/teacher/run.ts [--steps 400] [--seeds 10] [--allocations early,late,one-type,uneven]
 *     [--noise 0] [--labels logits] [--teachers 1] [--arms adalora,sora] [--arms-file ARMS.json]
 *     [--learning-rate 0.01] [--effect 0.05] [--rows 16384] [--out FILE]
 *
 * Measures which of a teacher's true ranks students keep. A teacher is a random encoder with changes of known rank in
 * known modules; a student starts from the same encoder and head, and learns the teacher's outputs. Prints a table:
 *
 *   correlation    of kept and true ranks over modules; F1 is 2 sum min(kept, true) / (sum kept + sum true)
 *   loss           on noise-free rows, 1 for a student that learns nothing; with `--labels classes` the cross-entropy
 *   between seeds  mean correlation of the ranks kept on one task; between tasks: with one seed
 *
 * Every flag accepts a list except --seeds, --learning-rate (for arms that name none), --effect, --rows and the files.
 * An arm is data, see arms.ts. --arms-file adds a list of arms, which run with the built-in ones or as selected by
 * --arms:
 *
 *   [{ "name": "wide", "method": "sora", "options": { "r": 8, "loraAlpha": 16 }, "learningRates": { "gate": 0.04 } }]
 *
 * With --out every run is written as soon as it finishes. Rerun the same command to resume.
 */
import { compiled } from '@peftjs/engine';
import { existsSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ARMS, configuredArm, RATE, type Arm } from './arms.js';
import { adaptedModules, randomEncoder, STANDARD } from './encoder.js';
import { table, type RunRecord } from './report.js';
import { runStudent } from './student.js';
import { ALLOCATIONS } from './allocations.js';
import { LABELS } from './rows.js';
import { makeTask, type TaskSettings } from './tasks.js';

const { values: flags } = parseArgs({
  options: {
    steps: { type: 'string', default: '400' },
    seeds: { type: 'string', default: '10' },
    allocations: { type: 'string', default: ALLOCATIONS.join() },
    noise: { type: 'string', default: '0' },
    labels: { type: 'string', default: 'logits' },
    teachers: { type: 'string', default: '1' },
    arms: { type: 'string' },
    'arms-file': { type: 'string' },
    'learning-rate': { type: 'string', default: String(RATE) },
    effect: { type: 'string', default: '0.05' },
    rows: { type: 'string', default: '16384' },
    out: { type: 'string' },
  },
});

const own = flags['arms-file'] ? (JSON.parse(await readFile(flags['arms-file'], 'utf8')) as Arm[]) : [];
const arms = armsNamed(flags.arms?.split(','), [
  ...ARMS.filter(({ name }) => !own.some((arm) => arm.name === name)),
  ...own,
]).map((arm) => ({ ...arm, learningRate: arm.learningRate ?? numbers('learning-rate')[0] ?? RATE }));
const done = flags.out && existsSync(flags.out) ? (JSON.parse(await readFile(flags.out, 'utf8')) as RunRecord[]) : [];
const known = new Map(done.map((run) => [keyOf(run), run]));
const wanted: RunRecord[] = [];

const executor = compiled({ threads: 1 });
const model = await randomEncoder(STANDARD);
for (const arm of arms) configuredArm(arm, adaptedModules(model), { one: 1 }); // fails early on a wrong option
const [seeds = 0] = numbers('seeds');
const students = numbers('steps').flatMap((steps) =>
  Array.from({ length: seeds }, (_, index) => ({ steps, seed: index + 1 })),
);
for (const settings of taskSettings()) {
  const plan = students.flatMap((student) => arms.map((arm) => ({ arm, task: settings, student })));
  const isDone = plan.every((run) => known.has(keyOf(run)));
  const task = isDone ? undefined : await makeTask(model, settings, executor);
  for (const run of plan) {
    const key = keyOf(run);
    if (task && !known.has(key)) {
      const outcome = await runStudent(model, task, run.arm, run.student, executor);
      known.set(key, { ...run, truth: task.ranks, outcome });
      console.error(
        `${settings.allocation}, seed ${run.student.seed}, ${run.student.steps} steps, ${run.arm.name}: ${outcome.seconds.toFixed(1)} s`,
      );
      await keep([...known.values()]);
    }
    wanted.push(known.get(key) as RunRecord);
  }
}
console.log(table(wanted));

function taskSettings(): TaskSettings[] {
  const [effect, rows] = [numbers('effect'), numbers('rows')].map(([first]) => first) as [number, number];
  return among('labels', LABELS).flatMap((labels) =>
    numbers('noise').flatMap((noise) =>
      among('allocations', ALLOCATIONS).flatMap((allocation) =>
        numbers('teachers').map((teacher) => ({ allocation, labels, noise, teacher, effect, rows })),
      ),
    ),
  );
}

/** Returns the names listed in a flag. @throws RangeError for an unknown name. */
function among<T extends string>(flag: 'labels' | 'allocations', known: readonly T[]): T[] {
  const unknown = flags[flag].split(',').find((name) => !known.includes(name as T));
  if (unknown === undefined) return flags[flag].split(',') as T[];
  throw new RangeError(`--${flag}: expected some of ${known.join(', ')}, got '${unknown}'`);
}

/** Returns the numbers listed in a flag. @throws RangeError for anything that is not a number of at least 0. */
function numbers(flag: 'steps' | 'seeds' | 'noise' | 'teachers' | 'effect' | 'rows' | 'learning-rate'): number[] {
  return flags[flag].split(',').map((text) => {
    const value = Number(text);
    if (text !== '' && value >= 0) return value;
    throw new RangeError(`--${flag}: expected numbers of at least 0, got '${text}'`);
  });
}

/** Returns the arms of these names, by default all. @throws RangeError for an unknown name. */
function armsNamed(names: readonly string[] | undefined, all: readonly Arm[]): readonly Arm[] {
  return (
    names?.map((name) => {
      const found = all.find((arm) => arm.name === name);
      if (found) return found;
      throw new RangeError(`no arm '${name}'; there are ${all.map((arm) => arm.name).join(', ')}`);
    }) ?? all
  );
}

/** Returns the key that identifies a run. */
function keyOf({ arm, task, student }: Pick<RunRecord, 'arm' | 'task' | 'student'>): string {
  return JSON.stringify([arm, task, student]);
}

/** Writes all runs atomically. */
async function keep(runs: readonly RunRecord[]): Promise<void> {
  if (!flags.out) return;
  await writeFile(`${flags.out}.tmp`, JSON.stringify(runs));
  await rename(`${flags.out}.tmp`, flags.out);
}
