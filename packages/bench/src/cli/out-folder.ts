import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { commandName } from '../registry/command-name.js';
import { ADAPTER_CONFIG, ConfigError } from '@peftjs/core/method';
import { UNFINISHED_FILE } from '../results/folder.js';

/** Adds the flags of a command that writes a folder, and returns the command. */
export function withOutFlags(command: Command, about: string): Command {
  return command.requiredOption('--out <folder>', about).option(...FORCE);
}

/** The `--force` flag and its help text. */
export const FORCE = ['--force', 'write into --out even if it holds something else'] as const;

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
 * Checks, before anything is computed, that `--out` is new, empty or the command's own. A run's results are resumed; an
 * adapter is replaced, which is announced; an export replaces nothing.
 * @throws ConfigError for a file, or without `--force` for a folder that holds something else.
 */
export function checkOut({ out, force = false }: OutFlags, written: Written): void {
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) {
    throw new ConfigError(`--out ${out} is a file; name a folder for the ${written}`, 'out');
  }
  const content = contentOf(out);
  if (content === undefined || (content === RESULTS && written === 'results')) return;
  if (content === ADAPTER && written === 'adapter') {
    process.stderr.write(`${commandName}: the new adapter will replace the one in ${out}; press Ctrl-C to keep it\n`);
  } else if (!force) {
    throw new ConfigError(
      `--out ${out} holds ${content}; name another folder for the ${written}, or add --force to write into this one`,
      'out',
    );
  }
}

const RESULTS = 'the results of a run';
const ADAPTER = 'an adapter';

/**
 * Kinds of folder by files that only they have. A command that was killed may have left only the weights of an adapter.
 */
const KINDS: readonly (readonly [content: string, files: readonly string[]])[] = [
  [ADAPTER, [ADAPTER_CONFIG, 'adapter_model.safetensors']],
  ['a model', ['config.json']],
];

/**
 * Describes a folder's contents; undefined if there are only hidden files and half-written ones of a killed command.
 */
function contentOf(folder: string): string | undefined {
  const files = filesIn(folder);
  if (isOfRun(folder, files)) return RESULTS;
  const kind = KINDS.find(([, own]) => own.some((file) => files.includes(file)));
  if (kind) return kind[0];
  const more = files.length > MAX_NAMED ? ', ..' : '';
  return files.length === 0 ? undefined : `other files (${files.slice(0, MAX_NAMED).join(', ')}${more})`;
}

const MAX_NAMED = 3;

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
