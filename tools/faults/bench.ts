import { PeftError } from '@peftjs/core';
import { spawn, type ChildProcess } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startRedis, type RedisOptions, type RedisServer } from './redis.js';

/** A process of peft-bench: the one that does the work, not the one that npx starts. */
export interface Bench {
  readonly process: ChildProcess;
  /** The exit code; null where it was killed. */
  readonly ended: Promise<number | null>;
  stdout(): string;
  stderr(): string;
}

const inBench = (path: string): string => fileURLToPath(new URL(`../../packages/bench/${path}`, import.meta.url));
/** The command, as it is published where PEFTJS_BUILT says that the packages are built. */
const COMMAND = process.env['PEFTJS_BUILT']
  ? [inBench('dist/cli.js')]
  : ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`, inBench('src/cli.ts')];
/** A random BERT of three layers, 32 wide. */
export const TINY_MODEL = fileURLToPath(new URL('../../tests/models/fixtures/bert-tiny', import.meta.url));

/** Starts peft-bench. */
export function startBench(args: readonly string[]): Bench {
  const child = spawn(process.execPath, [...COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
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

/** The exit code where a process ends within so many milliseconds, null where it was killed; undefined where it goes on. */
export function endedWithin({ ended }: Bench, ms: number): Promise<number | null | undefined> {
  return Promise.race([ended, setTimeout(ms, undefined, { ref: false })]);
}

/** Waits for the end of a run. @throws PeftError with what it said when it fails. */
export async function succeeded({ ended, stderr }: Bench): Promise<void> {
  const code = await ended;
  if (code !== 0) throw new PeftError('PEFT_FAULTS', `the run ended with ${code}: ${stderr()}`);
}

/** Writes a study over the preset `smoke`; gives the command that runs it on a tiny model, without where and on what. */
export async function writeStudy(folder: string, methods: string, study: object): Promise<string[]> {
  const config = join(folder, 'study.json');
  await writeFile(config, JSON.stringify(study));
  return ['run', '--preset', 'smoke', '--config', config, '--model', TINY_MODEL, '--method', methods];
}

/** kill -9, and nothing else: what it started has to see to itself. */
export async function kill({ process: child, ended }: Bench): Promise<void> {
  child.kill('SIGKILL');
  await ended;
}

/** The results of a run by id, without what two runs may differ in: time, memory and dates. */
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

/** What two runs of one plan do not have in common, in words; nothing where they are equal. */
export function differences(expected: ReadonlyMap<string, string>, got: ReadonlyMap<string, string>): string[] {
  const ids = new Set([...expected.keys(), ...got.keys()]);
  return [...ids].flatMap((id) => {
    if (!got.has(id)) return [`${id} is lost`];
    if (!expected.has(id)) return [`${id} is one too many`];
    return got.get(id) === expected.get(id) ? [] : [`${id} has other numbers`];
  });
}

/** A Redis with two workers, as long as something needs them; workers that are put into the places of others end with it, too. */
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
