import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { commandName } from '../registry/command-name.js';
import { ADAPTER_CONFIG, ConfigError } from '@peftjs/core/method';
import { HALF_WRITTEN } from '../results/folder.js';

/** Adds the flags of a command that writes a folder. */
export function withOutFlags(command: Command, about: string): Command {
  return command.requiredOption('--out <folder>', about).option(...FORCE);
}

/** The flag that lets a command write into a folder of something else, and what it does. */
export const FORCE = ['--force', 'write into --out though it holds something else'] as const;

/** Where a command writes, as its flags say. */
export interface OutFlags {
  readonly out: string;
  readonly force?: boolean;
}

/** What is written, for messages. */
type Written = 'results' | 'adapter' | 'export';

/**
 * Checks before anything is computed that `--out` is new, empty or the command's own: results of a run are resumed, an adapter is
 * replaced by the next one, which is announced. An export replaces nothing.
 * @throws ConfigError for a file, and without `--force` for a folder that holds something else.
 */
export function checkOut({ out, force = false }: OutFlags, written: Written): void {
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) {
    throw new ConfigError(`--out ${out} is a file; name a folder for the ${written}`, 'out');
  }
  const content = contentOf(out);
  if (content === undefined || (content === RESULTS && written === 'results')) return;
  if (content === ADAPTER && written === 'adapter') {
    process.stderr.write(`${commandName}: ${out} holds an adapter, which the new one will replace; Ctrl-C keeps it\n`);
  } else if (!force) {
    throw new ConfigError(
      `--out ${out} holds ${content}; name another folder for the ${written}, or add --force to write into this one`,
      'out',
    );
  }
}

const RESULTS = 'the results of a run';
const ADAPTER = 'an adapter';

/** Kinds of folder by a file that only they have. What was cut short may have left checkpoints or the second of an adapter's files alone. */
const KINDS: readonly (readonly [content: string, files: readonly string[]])[] = [
  [RESULTS, ['results', 'run.json', 'checkpoints', 'tuning']],
  [ADAPTER, [ADAPTER_CONFIG, 'adapter_model.safetensors']],
  ['a model', ['config.json']],
];

/** What a folder holds; undefined where there is nothing but hidden files and what a killed command left half-written. */
function contentOf(folder: string): string | undefined {
  const kind = KINDS.find(([, files]) => files.some((file) => existsSync(join(folder, file))));
  if (kind) return kind[0];
  const files = readdirSync(folder).filter((name) => !name.startsWith('.') && !HALF_WRITTEN.test(name));
  const more = files.length > MOST_NAMED ? ', ..' : '';
  return files.length === 0 ? undefined : `other files (${files.slice(0, MOST_NAMED).join(', ')}${more})`;
}

const MOST_NAMED = 3;
