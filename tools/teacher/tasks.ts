import { hostTensor, type Executor, type Model, type PeftModel, predict, type Batch } from '@peftjs/core';
import { createRng, hostIntegers, type HostTensor, type Rng, type Site } from '@peftjs/core/method';
import { adaptedModules } from './encoder.js';
import { makeTeacher } from './teacher.js';

/** Ranks by module path. */
export type Ranks = Readonly<Record<string, number>>;

/** Where a teacher's ranks are. */
export type Allocation = 'early' | 'late' | 'one-type' | 'uneven';
export const ALLOCATIONS: readonly Allocation[] = ['early', 'late', 'one-type', 'uneven'];

/** What a student is told: the teacher's logits, or which of them is the greatest. */
export type LabelKind = 'logits' | 'classes';

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
  /** More of these: the oracle decides by them. */
  readonly oracle: Rows;
  /** Mean square of what the teacher changes in the logits: the error of a student that learns nothing. */
  readonly signal: number;
}

/** Labelled rows of random tokens. */
export interface Rows {
  readonly ids: readonly Int32Array[];
  /** The teacher's logits without noise, [outputs] each. */
  readonly clean: readonly Float32Array[];
  /** What is learnt, [outputs] each. */
  readonly logits: readonly Float32Array[];
}

/** Rows that students and the oracle are measured on. */
const MEASURED = 1024;
/** Least and most tokens of a row. */
const TOKENS = [6, 16] as const;
/** Rows that are predicted at once. */
const PREDICTED = 256;

/** Draws a teacher and its rows. */
export async function makeTask(model: Model, settings: TaskSettings, executor: Executor): Promise<Task> {
  const rng = createRng(settings.teacher).fork('teacher');
  const ranks = trueRanks(adaptedModules(model), settings.allocation, rng.fork(settings.allocation));
  const probed = drawnRows(model, PREDICTED, rng.fork('probed'));
  const teacher = await makeTeacher(model, ranks, settings.effect, rng.fork('changes'), (changed) =>
    logitsOf(changed, probed, executor),
  );
  const drawRows = async (name: string, count: number): Promise<Omit<Rows, 'logits'>> => {
    const ids = drawnRows(model, count, rng.fork(name));
    return { ids, clean: await logitsOf(teacher, ids, executor) };
  };
  const test = await drawRows('test', MEASURED);
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
    oracle: noisy(await drawRows('oracle', 256), 0),
    signal,
  };
}

/** Ranks that are on average one: half of the layers with two in every module, or the values alone, or ranks from 6 to 0 drawn. */
export function trueRanks(sites: readonly Site[], allocation: Allocation, rng: Rng): Ranks {
  const layers = 1 + Math.max(...sites.map(({ layer = 0 }) => layer));
  const drawn = rng.permutation(sites.length);
  const rankOf: Record<Allocation, (site: Site, index: number) => number> = {
    early: ({ layer = 0 }) => (2 * layer < layers ? 2 : 0),
    late: ({ layer = 0 }) => (2 * layer < layers ? 0 : 2),
    'one-type': ({ role }) => (role === 'attention.value' ? sites.length / layers : 0),
    uneven: (_, index) => UNEVEN[(drawn[index] as number) % 12] ?? 0,
  };
  return Object.fromEntries(sites.map((site, index) => [site.path, rankOf[allocation](site, index)]));
}

/** The ranks of 12 modules; the others have none. */
const UNEVEN: readonly number[] = [6, 3, 2, 1];

function drawnRows(model: Model, count: number, rng: Rng): Int32Array[] {
  const words = model.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const [least, most] = TOKENS;
  return Array.from({ length: count }, () =>
    Int32Array.from({ length: least + rng.integer(most - least + 1) }, () => rng.integer(words)),
  );
}

function withNoise(logits: readonly Float32Array[], deviation: number, rng: Rng): readonly Float32Array[] {
  return deviation === 0 ? logits : logits.map((row) => row.map((value) => value + deviation * rng.normal()));
}

/** A model's logits for rows without labels, [outputs] each. */
export async function logitsOf(
  model: Model | PeftModel,
  ids: readonly Int32Array[],
  executor: Executor,
): Promise<Float32Array[]> {
  const numbers = [...ids.keys()];
  return predict(
    model,
    batchesOf(numbers, PREDICTED, (rows) => batchOf(rows, ids, noLabels(rows))),
    { executor },
  );
}

const noLabels = (rows: readonly number[]): HostTensor => hostIntegers(new Int32Array(rows.length), [rows.length]);

/** Row numbers in groups of a size, the last one smaller. */
export function batchesOf(rows: readonly number[], size: number, make: (rows: readonly number[]) => Batch): Batch[] {
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, at) => make(rows.slice(at * size, (at + 1) * size)));
}

/** A batch of labelled rows. */
export function labelledBatch(rows: readonly number[], { ids, logits }: Rows, labels: LabelKind): Batch {
  const own = rows.map((row) => logits[row] as Float32Array);
  const outputs = own[0]?.length ?? 0;
  return batchOf(
    rows,
    ids,
    labels === 'classes'
      ? hostIntegers(Int32Array.from(own, argmax), [rows.length])
      : hostTensor(Float32Array.from(own.flatMap((row) => [...row])), [rows.length, 1, outputs]), // no axis of tokens
  );
}

/** All batches have the same number of tokens. */
function batchOf(rows: readonly number[], ids: readonly Int32Array[], labels: HostTensor): Batch {
  const tokens = TOKENS[1];
  const inputIds = new Int32Array(rows.length * tokens);
  const mask = new Float32Array(rows.length * tokens);
  rows.forEach((row, index) => {
    const own = ids[row] as Int32Array;
    inputIds.set(own, index * tokens);
    mask.fill(1, index * tokens, index * tokens + own.length);
  });
  return {
    inputs: {
      inputIds: hostIntegers(inputIds, [rows.length, tokens]),
      attentionMask: hostTensor(mask, [rows.length, tokens]),
    },
    labels,
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows: [...rows],
  };
}

/** The index of the greatest value, the first of equal ones. */
export function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

/** Over all elements of all rows. */
export function meanSquaredError(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let [sum, count] = [0, 0];
  a.forEach((row, at) =>
    row.forEach((value, column) => {
      sum += (value - (b[at]?.[column] as number)) ** 2;
      count++;
    }),
  );
  return sum / count;
}
