import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { JobsOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import * as v from 'valibot';
import { ConfigError, DataError } from '@peftjs/core/method';
import { taskKinds } from '@peftjs/tasks';
import type { DataSource } from '../../registry/tasks.js';
import { anyNumber, canonical } from '../../results/json.js';
import { trialResultSchema, type DoneTrial } from '../../results/schema.js';
import type { Trial } from '../../study/trials.js';
import type { TrialProgress } from '../recorder.js';
import type { WorkerFailure } from '../runner.js';

/* What the process that asks for trials and those that run them have to agree on. */

/** Every key in Redis begins like this. */
export const PREFIX = 'peft-bench';
/** The queues that somebody asks, by when. */
export const QUEUES_KEY = `${PREFIX}:queues`;

/**
 * A worker that says nothing for so long has lost its trial to another one: long enough for a busy machine and a slow network, short
 * enough not to be waited for. Losing a trial by mistake costs the steps since its last checkpoint, never a number.
 */
export const LOCK_MS = 8_000;
/** How often a worker says that it is still at a trial: three times in the time of a lock. */
export const LOCK_RENEWAL_MS = 2_500;
/** How often workers look for trials whose worker is gone. */
export const STALLED_MS = 2_000;
/** Runs of a trial whose process dies: of too little memory, say. A trial that fails by itself fails again, and is run once. */
const ATTEMPTS = 3;
/**
 * Workers that may vanish under one trial: machines come and go, which is no fault of the trial's. The limit is for the one that takes
 * its machine along.
 */
export const MAX_STALLED = 25;
/** Bytes of a trial's data that go through Redis; more is better read from a path that all machines share. */
export const MOST_BYTES = 50 * 2 ** 20;
/** Results that nobody fetches, and the data of trials, are thrown away after a week. */
export const KEEP_SECONDS = 7 * 24 * 3600;

export const JOB_OPTIONS: JobsOptions = {
  attempts: ATTEMPTS,
  backoff: { type: 'fixed', delay: 1_000 },
  removeOnComplete: { age: KEEP_SECONDS },
  removeOnFail: { age: KEEP_SECONDS },
  stackTraceLimit: 0,
};

/** A file that goes through Redis. */
export interface TravellingFile {
  /** Where it lies below the folder of the task, with '/'. */
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
}

/** What a worker is given: a trial, and where its model and data are. */
export interface TrialJob {
  readonly trial: Trial;
  /** The model as a worker finds it: an absolute path, where the plan names a folder. */
  readonly model: string;
  /** The data as a worker finds them; paths are relative to where `files` are unpacked, and absolute where there are none. */
  readonly data: DataSource;
  readonly files: readonly TravellingFile[];
  /** Steps between two checkpoints; the default where it is left out. */
  readonly checkpointEvery?: number;
}

/** How a trial ended for good. */
export type TrialOutcome =
  { readonly type: 'done'; readonly result: DoneTrial } | { readonly type: 'failed'; readonly error: WorkerFailure };

/**
 * The queue of a trial: trials that need the same of a worker (model, data, method and versions) share one, so that a worker that
 * lacks something leaves the whole queue to others.
 */
export function queueOf({ model, fingerprints, task, method, engine, versions }: Trial): string {
  const needs = canonical([model, fingerprints, task, method, engine, versions]);
  return createHash('sha256').update(needs).digest('hex').slice(0, 16);
}

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(4_000));
const id = v.pipe(v.string(), v.maxLength(200), v.regex(/^[A-Za-z0-9][\w.-]*$/));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
/** Below a folder, whatever the folder. */
const isInside = (path: string): boolean =>
  path.split('/').every((part) => !['', '.', '..'].includes(part) && !/[\\\0]/.test(part));
const inside = v.pipe(v.string(), v.maxLength(1_000), v.check(isInside));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const documentEnd = v.exactOptional(v.picklist(['file', 'paragraph', 'line']));
const columns = v.exactOptional(
  v.strictObject({
    kind: v.optional(v.picklist(taskKinds)),
    textColumn: v.optional(text),
    pairColumn: v.optional(text),
    labelColumn: v.optional(text),
    labelSeparator: v.optional(text),
    scoreScale: v.optional(v.number()),
  }),
);
const reading = { documentEnd, columns };
const dataSource = v.variant('kind', [
  v.object({ kind: v.literal('embedded') }),
  v.object({ kind: v.literal('files'), train: text, dev: v.optional(text), ...reading }),
  v.object({ kind: v.literal('folder'), folder: text, ...reading }),
]);

const jobSchema = v.pipe(
  v.object({
    trial: v.looseObject({ id, method: text, model: text, task: text, data: dataSource }),
    model: text,
    data: dataSource,
    files: v.pipe(v.array(v.object({ path: inside, sha256, bytes: count })), v.maxLength(100)),
    checkpointEvery: v.exactOptional(count),
  }),
  v.check(
    ({ data, files }) =>
      files.length === 0 || data.kind !== 'files' || [data.train, data.dev ?? data.train].every(isInside),
    'data that travel must stay in their folder',
  ),
  v.check(
    ({ files }) => files.reduce((sum, { bytes }) => sum + bytes, 0) <= MOST_BYTES,
    `at most ${MOST_BYTES} bytes may travel`,
  ),
);

const outcomeSchema = v.variant('type', [
  v.object({ type: v.literal('done'), result: trialResultSchema }),
  v.object({ type: v.literal('failed'), error: v.object({ code: text, message: v.string() }) }),
]);

/** Reads the job of a trial. @throws DataError when it is none, or one that would leave its folder. */
export function readJob(id: string, data: unknown): TrialJob {
  const job = v.safeParse(jobSchema, data, { abortEarly: true });
  if (job.success && job.output.trial.id === id) return data as TrialJob;
  if (job.success) throw new DataError(`the job ${id} is the trial ${job.output.trial.id}`);
  throw new DataError(`this is no trial: '${v.getDotPath(job.issues[0]) ?? 'the whole'}' is not what it should be`);
}

/**
 * Reads what a worker says of a trial.
 * @throws DataError when it is no outcome, or a result that is not of this trial, whatever id it bears.
 */
export function readOutcome(trial: Trial, value: unknown): TrialOutcome {
  const outcome = v.safeParse(outcomeSchema, value, { abortEarly: true });
  if (!outcome.success) {
    const [issue] = outcome.issues;
    throw new DataError(`a worker's answer is no result: '${v.getDotPath(issue) ?? 'the whole'}': ${issue.message}`);
  }
  const { output } = outcome;
  if (output.type === 'failed') return { type: 'failed', error: { ...output.error } };
  const { result } = output;
  if (result.status !== 'done') throw new DataError("a worker's answer is a failure that is called done");
  assertAsked(trial, result);
  return { type: 'done', result };
}

/** What a result repeats of its trial. */
const REPEATED = ['id', 'arm', 'method', 'model', 'task', 'seed', 'judgedOn', 'engine', 'versions'] as const;

/** @throws DataError naming the first field in which a result is another trial's. */
function assertAsked(trial: Trial, result: DoneTrial): void {
  const budget = trial.budget ?? 'none';
  const other = REPEATED.find((field) => !isDeepStrictEqual(result[field], trial[field]));
  if (other === undefined && result.budget.spec === budget) return;
  const [field, given, asked] =
    other === undefined ? ['budget', result.budget.spec, budget] : [other, result[other], trial[other]];
  throw new DataError(
    `a worker's answer is not of this trial: its ${field} is ${shown(given)}, and ${shown(asked)} was asked for`,
    field,
  );
}

function shown(value: unknown): string {
  return JSON.stringify(value).slice(0, 300);
}

const metric = v.object({ name: text, value: anyNumber });
const progressSchema = v.object({
  step: count,
  totalSteps: count,
  epoch: v.pipe(v.number(), v.finite(), v.minValue(0)),
  epochs: v.pipe(v.number(), v.finite(), v.minValue(0)),
  stage: v.exactOptional(v.object({ stage: count, stages: count })),
  loss: anyNumber,
  storedParameters: v.pipe(v.number(), v.finite(), v.minValue(0)),
  metric: v.exactOptional(metric),
});

/** Reads how far a trial is; undefined for anything else: it is for the eye alone, and the next word of it will do. */
export function readProgress(value: unknown): TrialProgress | undefined {
  const progress = v.safeParse(progressSchema, value, { abortEarly: true });
  return progress.success ? progress.output : undefined;
}

const NAMES_KEY = `${PREFIX}:workers`;
/** A worker that has not been heard of for so long is not there. */
const PRESENT_SECONDS = 10;

const line = v.pipe(v.string(), v.maxLength(4_000));
const presence = v.object({
  name: line,
  /** Why it leaves trials to others, by queue. */
  refused: v.record(line, line),
});

/** What a worker lets others know. */
export type Presence = v.InferOutput<typeof presence>;

/** Says that a worker is there; to be said again every few seconds. */
export async function announce(redis: Redis, worker: Presence): Promise<void> {
  await redis
    .multi()
    .sadd(NAMES_KEY, worker.name)
    .set(keyOf(worker.name), JSON.stringify(worker), 'EX', PRESENT_SECONDS)
    .exec();
}

/** Says that a worker is gone. */
export async function leave(redis: Redis, name: string): Promise<void> {
  await redis.multi().srem(NAMES_KEY, name).del(keyOf(name)).exec();
}

/** The workers that are there; what is no word of a worker counts as none. */
export async function presentWorkers(redis: Redis): Promise<Presence[]> {
  const names = await redis.smembers(NAMES_KEY);
  if (names.length === 0) return [];
  const values = await redis.mget(names.map(keyOf));
  const gone = names.filter((_, index) => values[index] === null);
  if (gone.length > 0) await redis.srem(NAMES_KEY, gone);
  return values.flatMap(readPresence);
}

function readPresence(value: string | null): Presence[] {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), presence), value);
  return read.success ? [read.output] : [];
}

function keyOf(name: string): string {
  return `${PREFIX}:worker:${name}`;
}

/** A Redis, and how messages name it: without its password. */
export interface RedisAddress {
  readonly url: string;
  /** `redis://host:port/db`. */
  readonly shown: string;
}

/**
 * Reads what `--queue` says: `redis://host:port`, or `rediss://` where the connection is encrypted, with `user:password@` before the
 * host and `/db` behind the port where they are needed.
 * @throws ConfigError for anything else; a password is not repeated.
 */
export function parseAddress(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isRedis = url !== undefined && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== '';
  if (!isRedis || !/^\/?\d*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new ConfigError(
      `--queue is '${withoutPassword(text)}'; expected redis://host:port, with /db behind it for another database than 0, or rediss:// for TLS`,
      'queue',
    );
  }
  return {
    url: text,
    shown: `${url.protocol}//${url.hostname}:${url.port || '6379'}${url.pathname}`.replace(/\/$/, ''),
  };
}

/** What stands before an @ is nobody's business. */
function withoutPassword(text: string): string {
  return text.replace(/^([a-z]+:\/\/)?.*@/is, (_, scheme: string | undefined) => `${scheme ?? ''}…@`);
}
