import { existsSync, readdirSync, statSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join, basename, dirname, parse } from 'node:path';
import type { Command } from 'commander';
import { CheckpointError, ConfigError, DataError } from '@peftjs/core/method';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, didYouMean, firstNames, UNFINISHED_FILE } from '@peftjs/core/model';
import { quoted } from '../format.js';
import { commandName } from '../registry/command-name.js';
import { checkpointOwners, claimFolder, unfinishedFolder, type Claim } from '../results/folder.js';
import { remedyFor } from '../results/remedies.js';
import { count, type StudyFlags } from './flags.js';

/** Adds the flags of a command that writes a folder, and returns the command. */
export function withOutFlags(command: Command, about: string): Command {
  return command.requiredOption('--out <folder>', about).option(...FORCE);
}

/** The `--force` flag and its help text. */
export const FORCE = ['--force', 'write into --out even if it holds something else'] as const;

/** The `--checkpoint-every` flag, its help text and its parser. */
export const CHECKPOINT_EVERY = [
  '--checkpoint-every <n>',
  'steps between two checkpoints (default: 50)',
  count,
] as const;

/** The flags of a command that writes checkpoints. */
export interface CheckpointFlags {
  /** Steps between two checkpoints. */
  readonly checkpointEvery?: number;
}

/** The flags that say where a command writes. */
export interface OutFlags {
  /** The output folder. */
  readonly out: string;
  /** Whether to write into a folder that holds something else. Default false. */
  readonly force?: boolean;
}

/** The kind of output, as named in messages. */
type Written = 'results' | 'adapter' | 'export';

/**
 * Checks, before anything is computed, that `--out` is new, empty or to be resumed: a run may resume the results of a
 * run, and a training an unfinished training.
 * @throws ConfigError for a file, or without `--force` for a folder that holds something else.
 */
export function checkOut({ out, force = false }: OutFlags, written: Written): void {
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) {
    throw new ConfigError(`--out ${out} is a file; name a folder for the ${written}`, 'out');
  }
  const content = contentOf(out);
  if (force || content === undefined || content === RESUMED[written]) return;
  const purpose = content === ADAPTER && written === 'adapter' ? 'replace it' : 'write into this one';
  throw new ConfigError(
    `--out ${out} holds ${content}; name another folder for the ${written}, or add --force to ${purpose}`,
    'out',
  );
}

const RESULTS = 'the results of a run';
const TRAINING = 'an unfinished training';
const ADAPTER = 'an adapter';

/** What each kind of output resumes. */
const RESUMED: Readonly<Partial<Record<Written, string>>> = { results: RESULTS, adapter: TRAINING };

/**
 * Runs `work` under the lock of `--out`, which it writes into as it goes.
 * @param rerun how to resume if the folder can no longer be written
 * @returns the exit code: that of `work`; 1 if the folder can no longer be written, which one line says.
 * @throws CheckpointError if the folder cannot be written from the beginning, ConfigError if another run holds it.
 */
export async function inClaimedFolder(
  out: string,
  { rerun = 'rerun the same command', ...claim }: Claim & { readonly rerun?: string },
  work: () => Promise<number>,
): Promise<number> {
  const isNew = !existsSync(out);
  const lock = await claimFolder(out, claim);
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CheckpointError && error.path?.startsWith(out))) throw error;
    const remedy = remedyFor(error.cause) ?? 'Fix that';
    process.stderr.write(`${commandName}: ${error.message}. ${remedy}, then ${rerun} to resume\n`);
    return 1;
  } finally {
    lock?.release();
    if (isNew) await rmdir(out).catch(() => undefined); // it holds something, unless the command was refused
  }
}

/**
 * Describes a folder's contents; undefined if there are only hidden files and half-written ones of a killed command.
 */
function contentOf(folder: string): string | undefined {
  const files = filesIn(folder);
  if (checkpointOwners(unfinishedFolder(folder)).length > 0) return TRAINING;
  if (isOfRun(folder, files)) return RESULTS;
  // A command that was killed may have left only the weights of an adapter.
  if ([ADAPTER_CONFIG, ADAPTER_WEIGHTS].some((file) => files.includes(file))) return ADAPTER;
  if (files.includes('config.json')) return 'a model';
  return files.length === 0 ? undefined : `other files (${firstNames(files)})`;
}

/** The folders of a run, and where they hold files of trials. */
const RUN_FOLDERS = ['results', 'checkpoints', 'tuning'];
const TRIAL_FOLDERS = ['results', 'checkpoints', 'tuning/results'];
/** The files of trials, by the hash at the end of an id. */
const TRIAL_FILE = /-[0-9a-f]{12}\.(?:json|safetensors)$/;

/** Whether a run wrote a folder. Older versions wrote no run.json, and a run that was killed may have left no file. */
function isOfRun(folder: string, files: readonly string[]): boolean {
  const holds = (part: string): boolean => filesIn(join(folder, part)).some((name) => TRIAL_FILE.test(name));
  const isEmpty = (name: string): boolean => RUN_FOLDERS.includes(name) && filesIn(join(folder, name)).length === 0;
  return files.includes('run.json') || TRIAL_FOLDERS.some(holds) || (files.length > 0 && files.every(isEmpty));
}

/** The entries of a folder, without hidden and half-written ones; none if there is no such folder. */
function filesIn(folder: string): string[] {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return [];
  return readdirSync(folder).filter((name) => !name.startsWith('.') && !UNFINISHED_FILE.test(name));
}

/** The flags that name files and folders to read. */
interface InputFlags extends Pick<StudyFlags, 'config' | 'train' | 'dev' | 'data' | 'images'> {
  /** An earlier run, of a command that compares with one. */
  readonly spreadFrom?: string;
}

/**
 * Checks that every file and folder that the flags name exists, before anything is loaded.
 * @throws DataError that lists all that are missing, each with the nearest name in its folder; or for a folder in place
 * of a file.
 */
export function assertInputs({ config, train, dev, data, images, spreadFrom }: InputFlags): void {
  const files = { config, train, dev };
  const folders = { data, images, 'spread-from': spreadFrom };
  const given = Object.entries({ ...files, ...folders }).filter(
    (input): input is [string, string] => input[1] !== undefined,
  );
  const missing = given.filter(([, path]) => !existsSync(path));
  if (missing.length > 0) {
    const names = missing.map(([flag, path]) => `--${flag} ${path}${nearestTo(path)}`);
    throw new DataError(`no such file or folder: ${names.join(', ')}`, missing[0]?.[1]);
  }
  const hints: Readonly<Record<string, string>> = {
    train: 'to use the files in it: --data',
    data: 'to train on it: --train',
  };
  for (const [flag, path] of given) {
    const isFolder = flag in folders;
    if (isFolder === statSync(path).isDirectory()) continue;
    const problem = isFolder ? 'a file, expected a folder' : 'a folder, expected a file';
    throw new DataError(
      `--${flag} ${path} is ${problem}${hints[flag] ? `; ${hints[flag]} ${quoted(path)}` : ''}`,
      path,
    );
  }
}

/** Suggests an entry of the folder in which a path is missing: one that is close even without its extension. */
function nearestTo(path: string): string {
  const folder = dirname(path);
  if (!existsSync(folder)) return '';
  const near = readdirSync(folder).filter((name) => didYouMean(parse(path).name, [parse(name).name]) !== '');
  return didYouMean(basename(path), near);
}
