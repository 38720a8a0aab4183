import type { Executor, Model } from '@peftjs/core';
import { createRng, type Rng } from '@peftjs/core/method';
import { trueRanks, type Allocation, type Ranks } from './allocations.js';
import { adaptedModules } from './encoder.js';
import { drawnRows, logitsOf, meanSquaredError, type LabelKind, type Rows } from './rows.js';
import { makeTeacher } from './teacher.js';

/** The settings of a task with known rank allocation. */
export interface TaskSettings {
  /** The pattern of the teacher's ranks. */
  readonly allocation: Allocation;
  /** The kind of labels. */
  readonly labels: LabelKind;
  /**
   * Standard deviation of the Gaussian noise on the training logits, relative to that of the teacher's changes of the
   * logits.
   */
  readonly noise: number;
  /** Seed of the teacher's changes, the rows and the noise. */
  readonly teacher: number;
  /** Standard deviation of the logits' change by each rank-one change alone, relative to that of the logits. */
  readonly effect: number;
  /** Number of training rows. */
  readonly rows: number;
}

/** A teacher with labelled rows. */
export interface Task {
  /** The settings. */
  readonly settings: TaskSettings;
  /** The true rank of every module; their sum is the number of modules. */
  readonly ranks: Ranks;
  /** Training rows, with labels from noisy logits. */
  readonly training: Rows;
  /** Test rows, with labels from noise-free logits. */
  readonly test: Rows;
  /** More rows like the test rows, by which the oracle prunes. */
  readonly oracle: Rows;
  /** Mean square of the teacher's changes of the logits: the error of a student that learns nothing. */
  readonly signal: number;
}

/** Number of test rows. */
const TEST = 1024;
/** Number of rows for measuring effects and for the oracle, which evaluates them hundreds of times. */
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
