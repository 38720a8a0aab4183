import { PeftError } from '@peftjs/core';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startRedis, type RedisOptions, type RedisServer } from './redis.js';

/** A peft-bench process, started without npx, so that it is the one that does the work. */
export interface Bench {
  /** The process. */
  readonly process: ChildProcess;
  /** The exit code; null if it was killed. */
  readonly ended: Promise<number | null>;
  /** Everything on stdout so far. */
  stdout(): string;
  /** Everything on stderr so far. */
  stderr(): string;
}

const inCli = (path: string): string => fileURLToPath(new URL(`../../packages/cli/${path}`, import.meta.url));
/** The command: the published one if PEFTJS_BUILT says that the packages are built, otherwise the sources. */
const COMMAND = process.env['PEFTJS_BUILT']
  ? [inCli('dist/cli.js')]
  : ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`, inCli('src/cli.ts')];
/** The folder of a random BERT with three layers of width 32. */
export const TINY_MODEL = fileURLToPath(new URL('../../tests/models/fixtures/bert-tiny', import.meta.url));

/** Starts peft-bench. */
export function startBench(args: readonly string[]): Bench {
  const child = spawn(process.execPath, [...COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', PEFTJS_COMMAND: 'peft-bench' },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return {
    process: child,
    ended: new Promise((resolve) => child.once('close', resolve)),
    stdout: () => stdout,
    stderr: () => stderr,
  };
}

/** Starts a worker that runs one trial at a time. */
export function startWorker(url: string, scratch: string): Bench {
  return startBench(['worker', '--queue', url, '--workers', '1', '--scratch', scratch]);
}

/** The exit code if a process ends within `ms` milliseconds, null if it was killed; undefined if it still runs. */
export function endedWithin({ ended }: Bench, ms: number): Promise<number | null | undefined> {
  return Promise.race([ended, setTimeout(ms, undefined, { ref: false })]);
}

/** Waits until a process has said something on stderr. @throws PeftError with all that it said if it ends before. */
export async function said({ stderr, ended }: Bench, what: RegExp): Promise<void> {
  while (!what.test(stderr())) {
    const code = await Promise.race([ended, setTimeout(50)]);
    if (code !== undefined) throw new PeftError('PEFT_FAULTS', `it ended with ${code} and said only: ${stderr()}`);
  }
}

/** Waits for a run to end. @throws PeftError with its stderr if it fails. */
export async function succeeded({ ended, stderr }: Bench): Promise<void> {
  const code = await ended;
  if (code !== 0) throw new PeftError('PEFT_FAULTS', `the run ended with ${code}: ${stderr()}`);
}

/**
 * Writes a study over the preset `smoke`. Returns the command that runs it on a tiny model, or trains one adapter of
 * it, without `--out` and the like.
 */
export async function writeStudy(
  folder: string,
  methods: string,
  study: object,
  command: 'run' | 'train' = 'run',
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const config = join(folder, 'study.json');
  await writeFile(config, JSON.stringify(study));
  return [command, '--preset', 'smoke', '--config', config, '--model', TINY_MODEL, '--method', methods];
}

/** Kills a process by kill -9, but not its children: they must end by themselves. */
export async function kill({ process: child, ended }: Bench): Promise<void> {
  child.kill('SIGKILL');
  await ended;
}

/** The results of a run by id, without the fields that may differ between runs: time, memory and dates. */
export async function comparable(out: string): Promise<Map<string, string>> {
  const folder = join(out, 'results');
  const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
  const results = files.map(async (file) => {
    const result = JSON.parse(await readFile(join(folder, file), 'utf8')) as Record<string, unknown>;
    const numbers = Object.entries(result).filter(([field]) => !MAY_DIFFER.includes(field));
    return [file.replace(/\.json$/, ''), JSON.stringify(Object.fromEntries(numbers))] as const;
  });
  return new Map(await Promise.all(results));
}

const MAY_DIFFER = ['time', 'memory', 'startedAt', 'finishedAt'];

/** The content of every file that a training leaves, by path. */
export async function adapterFiles(out: string): Promise<Map<string, string>> {
  const entries = await readdir(out, { recursive: true, withFileTypes: true });
  // A process that is killed after its last step leaves its lock.
  const own = entries.filter((entry) => entry.isFile() && entry.name !== '.lock');
  const paths = own.map(({ parentPath, name }) => join(parentPath, name));
  const files = paths.map(async (path) => [relative(out, path), await readFile(path, 'base64')] as const);
  return new Map(await Promise.all(files));
}

/** The differences between two runs of one plan, in words; empty if they are equal. */
export function differences(expected: ReadonlyMap<string, string>, got: ReadonlyMap<string, string>): string[] {
  const ids = new Set([...expected.keys(), ...got.keys()]);
  return [...ids].flatMap((id) => {
    if (!got.has(id)) return [`${id} is missing`];
    if (!expected.has(id)) return [`${id} is unexpected`];
    return got.get(id) === expected.get(id) ? [] : [`${id} differs`];
  });
}

/**
 * Runs `use` with a Redis and two workers, and stops them afterwards, including workers that replaced others in the
 * array.
 */
export async function withWorkers<T>(
  scratch: string,
  options: RedisOptions,
  use: (redis: RedisServer, workers: Bench[]) => Promise<T>,
): Promise<T> {
  const redis = await startRedis(options);
  const workers = [startWorker(redis.url, scratch), startWorker(redis.url, scratch)];
  try {
    return await use(redis, workers);
  } finally {
    await Promise.all(workers.map(kill));
    await redis.stop();
  }
}
