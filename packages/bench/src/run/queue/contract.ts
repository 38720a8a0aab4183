import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { isDeepStrictEqual } from 'node:util';
import type { JobsOptions } from 'bullmq';
import * as v from 'valibot';
import { ConfigError, DataError, UnsupportedError } from '@peftjs/core/method';
import {
  dataSourceSchema,
  type DataSource,
  type Trial,
  type TrialProgress,
  type WorkerFailure,
  trialProgressSchema,
} from '@peftjs/cli/trials';
import { canonical, trialResultSchema, type DoneTrial } from '@peftjs/cli/results';

/* The protocol between the process that queues trials and the workers that run them. */

/** The start of every key in Redis. */
export const PREFIX = 'peft-bench';
/** The queues with open requests, by the time of the last request. */
export const QUEUES_KEY = `${PREFIX}:queues`;

/**
 * A worker that is silent for this long, in milliseconds, loses its trial to another one. That is long enough for a
 * busy machine and a slow network, and short enough not to delay a run. Losing a trial by mistake costs the steps since
 * its last checkpoint, never a number.
 */
export const LOCK_MS = 8_000;
/** How often a worker confirms that it is still running a trial, in milliseconds: three times per lock. */
export const LOCK_RENEWAL_MS = 2_500;
/** How often workers look for trials of vanished workers, in milliseconds. */
export const STALLED_MS = 2_000;
/**
 * Runs of a trial whose process dies, e.g. because memory ran out. A trial that fails with an error would fail again,
 * so it runs once.
 */
const ATTEMPTS = 3;
/**
 * Workers that may vanish during one trial. Machines come and go, which is not the trial's fault; the limit is for a
 * trial that takes down its machine.
 */
export const MAX_STALLED = 25;
/** The most bytes of a trial's data that go through Redis; more should be on a path that all machines share. */
export const MAX_BYTES = 50 * 2 ** 20;
/** The most files of a trial's data: a folder of images is one each. */
const MAX_FILES = 100_000;
/** Unclaimed results and the data of trials are removed after a week. */
export const KEEP_SECONDS = 7 * 24 * 3600;

/** BullMQ's options for the jobs of trials. */
export const JOB_OPTIONS: JobsOptions = {
  attempts: ATTEMPTS,
  backoff: { type: 'fixed', delay: 1_000 },
  removeOnComplete: { age: KEEP_SECONDS },
  removeOnFail: { age: KEEP_SECONDS },
  stackTraceLimit: 0,
};

/** A job for a worker: a trial, and where its model and data are. */
export interface TrialJob {
  /** The trial. */
  readonly trial: Trial;
  /** The model as a worker finds it: an absolute path if the plan names a folder. */
  readonly model: string;
  /**
   * The data as a worker finds them. Paths are relative to the folder of the unpacked `files`, or absolute if there are
   * none.
   */
  readonly data: DataSource;
  /** Files that are sent through Redis. */
  readonly files: readonly SentFile[];
  /** Steps between checkpoints. Default the worker's. */
  readonly checkpointEvery?: number;
}

/** The final outcome of a trial. */
export type TrialOutcome =
  | { readonly type: 'done'; readonly result: DoneTrial }
  | { readonly type: 'failed'; readonly error: WorkerFailure };

/**
 * The queue of a trial. Trials with the same needs (model, data, method and versions) share a queue, so a worker that
 * lacks something can leave the whole queue to others.
 */
export function queueOf({ model, fingerprints, task, method, engine, versions }: Trial): string {
  const needs = canonical([model, fingerprints, task, method, engine, versions]);
  return createHash('sha256').update(needs).digest('hex').slice(0, 16);
}

/** Whether a name is one of `queueOf`. Other programs may have written to the same list. */
export function isQueue(name: string): boolean {
  return /^[0-9a-f]{16}$/.test(name);
}

/** The most characters of a text in a job. */
export const MAX_TEXT = 4_000;

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_TEXT));
const id = v.pipe(v.string(), v.maxLength(200), v.regex(/^[A-Za-z0-9][\w.-]*$/));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
/** Whether a path stays below its folder. */
const isInside = (path: string): boolean =>
  path.split('/').every((part) => !['', '.', '..'].includes(part) && !/[\\\0]/.test(part));
const inside = v.pipe(v.string(), v.maxLength(1_000), v.check(isInside));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const sentFile = v.object({
  /** Its path below the task's folder, with '/'. */
  path: inside,
  /** The hash of its content, in hexadecimal. */
  sha256,
  /** Its size. */
  bytes: count,
});

/** A file that is sent through Redis. */
export type SentFile = v.InferOutput<typeof sentFile>;

const jobSchema = v.pipe(
  v.object({
    trial: v.looseObject({ id, method: text, model: text, task: text, data: dataSourceSchema }),
    model: text,
    data: dataSourceSchema,
    files: v.pipe(v.array(sentFile), v.maxLength(MAX_FILES)),
    checkpointEvery: v.exactOptional(count),
  }),
  v.check(
    ({ data, files }) =>
      files.length === 0 || data.kind !== 'files' || [data.train, data.dev ?? data.train].every(isInside),
    'data sent through Redis must stay in their folder',
  ),
  v.check(
    ({ files }) => files.reduce((sum, { bytes }) => sum + bytes, 0) <= MAX_BYTES,
    `at most ${MAX_BYTES} bytes may be sent`,
  ),
);

const outcomeSchema = v.variant('type', [
  v.object({ type: v.literal('done'), result: trialResultSchema }),
  v.object({ type: v.literal('failed'), error: v.object({ code: text, message: v.string() }) }),
]);

/** Parses the job of a trial. @throws DataError if it is invalid, or if its paths would leave their folder. */
export function readJob(id: string, data: unknown): TrialJob {
  const job = v.safeParse(jobSchema, data, { abortEarly: true });
  if (job.success && job.output.trial.id === id) return data as TrialJob;
  if (job.success) throw new DataError(`the job ${id} has another trial, ${job.output.trial.id}`);
  throw new DataError(`the job is invalid: '${v.getDotPath(job.issues[0]) ?? 'the whole'}' is not as expected`);
}

/**
 * Parses a worker's answer about a trial.
 * @throws DataError if it is not an outcome, or if the result belongs to another trial, whatever its id.
 */
export function readOutcome(trial: Trial, value: unknown): TrialOutcome {
  const outcome = v.safeParse(outcomeSchema, value, { abortEarly: true });
  if (!outcome.success) {
    const [issue] = outcome.issues;
    throw new DataError(`a worker's answer is not a result: '${v.getDotPath(issue) ?? 'the whole'}': ${issue.message}`);
  }
  const { output } = outcome;
  if (output.type === 'failed') return { type: 'failed', error: { ...output.error } };
  const { result } = output;
  if (result.status !== 'done') throw new DataError("a worker's answer is a failure marked as done");
  assertAsked(trial, result);
  return { type: 'done', result };
}

/** The fields of a trial that its result repeats. */
const REPEATED = ['id', 'arm', 'method', 'model', 'task', 'seed', 'judgedOn', 'engine', 'versions'] as const;

/** @throws DataError naming the first field in which the result differs from the trial. */
function assertAsked(trial: Trial, result: DoneTrial): void {
  const budget = trial.budget ?? 'none';
  const other = REPEATED.find((field) => !isDeepStrictEqual(result[field], trial[field]));
  if (other === undefined && result.budget.spec === budget) return;
  const [field, given, asked] =
    other === undefined ? ['budget', result.budget.spec, budget] : [other, result[other], trial[other]];
  throw new DataError(
    `a worker's answer is not for this trial: its ${field} is ${shown(given)}, expected ${shown(asked)}`,
    field,
  );
}

function shown(value: unknown): string {
  return JSON.stringify(value).slice(0, 300);
}

/** Parses a trial's progress; undefined if invalid. It is only displayed, and more will follow. */
export function readProgress(value: unknown): TrialProgress | undefined {
  const progress = v.safeParse(trialProgressSchema, value, { abortEarly: true });
  return progress.success ? progress.output : undefined;
}

const refusal = v.object({ worker: text, refused: text });

/** Why a worker leaves a trial to others; it takes the place of progress. */
export type Refusal = v.InferOutput<typeof refusal>;

/** Parses a worker's refusal; undefined if the value is something else, such as progress. */
export function readRefusal(value: unknown): Refusal | undefined {
  const read = v.safeParse(refusal, value, { abortEarly: true });
  return read.success ? read.output : undefined;
}

/** The address of a Redis, and the form without password that messages show. */
export interface RedisAddress {
  /** The address to connect to. */
  readonly url: string;
  /** `redis://host:port/db`, without credentials. */
  readonly shown: string;
}

/**
 * Parses `--queue`: `redis://host:port`, or `rediss://` for TLS, optionally with `user:password@` before the host and
 * `/db` after the port.
 * @throws ConfigError for anything else; the message hides a password.
 */
export function parseAddress(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isRedis = url !== undefined && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== '';
  if (!isRedis || !/^\/?\d*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new ConfigError(
      `--queue is '${withoutPassword(text)}'; expected redis://host:port, or rediss:// for TLS, and /db after the port for a database other than 0`,
      'queue',
    );
  }
  return {
    url: text,
    shown: `${url.protocol}//${url.hostname}:${url.port || '6379'}${url.pathname}`.replace(/\/$/, ''),
  };
}

/** Redacts the credentials before an @. */
function withoutPassword(text: string): string {
  return text.replace(/^([a-z]+:\/\/)?.*@/is, (_, scheme: string | undefined) => `${scheme ?? ''}…@`);
}

/** The packages of the queue, with the versions that work; they are optional peers, since most runs need no queue. */
const PACKAGES: Readonly<Record<string, string>> = { bullmq: '6', ioredis: '6' };

/** @throws UnsupportedError if a package that the queue needs is not installed, with the command that installs it. */
export function assertInstalled(packages = PACKAGES): void {
  const missing = Object.keys(packages).filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  const specs = missing.map((name) => `${name}@${packages[name]}`);
  throw new UnsupportedError(
    `--queue needs ${missing.join(' and ')}, which ${missing.length > 1 ? 'are' : 'is'} not installed: npm install ${specs.join(' ')}`,
    'queue',
  );
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}
