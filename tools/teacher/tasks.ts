import type { Executor, Model } from '@peftjs/core';
import { createRng, type Rng } from '@peftjs/core/method';
import { trueRanks, type Allocation, type Ranks } from './allocations.js';
import { adaptedModules } from './encoder.js';
import { drawnRows, logitsOf, meanSquaredError, type LabelKind, type Rows } from './rows.js';
import { makeTeacher } from './teacher.js';

/** A task whose rank allocation is known. */
export interface TaskSettings {
  readonly allocation: Allocation;
  readonly labels: LabelKind;
  /** Deviation of the Gaussian noise on the logits that labels are made of, against that of what the teacher changes in them. */
  readonly noise: number;
  /** Draws the teacher's changes, the rows and the noise. */
  readonly teacher: number;
  /** Deviation of what each rank-one change makes of the logits by itself, against that of the logits. */
  readonly effect: number;
  /** Number of training rows. */
  readonly rows: number;
}

/** A teacher, and rows with its labels. */
export interface Task {
  readonly settings: TaskSettings;
  /** True ranks; as many in all as there are modules. */
  readonly ranks: Ranks;
  /** Training rows with labels from noisy logits. */
  readonly training: Rows;
  /** Other rows with labels from clean logits: students are measured on them. */
  readonly test: Rows;
  /** More of these, which the oracle decides by. */
  readonly oracle: Rows;
  /** Mean square of what the teacher changes in the logits: the error of a student that learns nothing. */
  readonly signal: number;
}

/** Rows that students are measured on. */
const TEST = 1024;
/** Rows that effects are measured on, and that the oracle decides by: hundreds of times. */
const PROBED = 256;

/** Draws a teacher and its rows. */
export async function makeTask(model: Model, settings: TaskSettings, executor: Executor): Promise<Task> {
  const rng = createRng(settings.teacher).fork('teacher');
  const ranks = trueRanks(adaptedModules(model), settings.allocation, rng.fork(settings.allocation));
  const probed = drawnRows(model, PROBED, rng.fork('probed'));
  const teacher = await makeTeacher(model, ranks, settings.effect, rng.fork('changes'), (changed) =>
    logitsOf(changed, probed, executor),
  );
  const drawRows = async (name: string, count: number): Promise<Omit<Rows, 'logits'>> => {
    const ids = drawnRows(model, count, rng.fork(name));
    return { ids, clean: await logitsOf(teacher, ids, executor) };
  };
  const test = await drawRows('test', TEST);
  const untouched = await logitsOf(model, test.ids, executor);
  const signal = meanSquaredError(untouched, test.clean);
  const noisy = (rows: Omit<Rows, 'logits'>, noise: number): Rows => ({
    ...rows,
    logits: withNoise(rows.clean, noise * Math.sqrt(signal), rng.fork('noise')),
  });
  return {
    settings,
    ranks,
    training: noisy(await drawRows('training', settings.rows), settings.noise),
    test: noisy(test, 0),
    oracle: noisy(await drawRows('oracle', PROBED), 0),
    signal,
  };
}

function withNoise(logits: readonly Float32Array[], deviation: number, rng: Rng): readonly Float32Array[] {
  return deviation === 0 ? logits : logits.map((row) => row.map((value) => value + deviation * rng.normal()));
}
