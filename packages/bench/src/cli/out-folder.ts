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
 * Kinds of folder by files that only they have. A command that was killed may have left only checkpoints, or only the
 * weights of an adapter.
 */
const KINDS: readonly (readonly [content: string, files: readonly string[]])[] = [
  [RESULTS, ['results', 'run.json', 'checkpoints', 'tuning']],
  [ADAPTER, [ADAPTER_CONFIG, 'adapter_model.safetensors']],
  ['a model', ['config.json']],
];

/**
 * Describes a folder's contents; undefined if there are only hidden files and half-written ones of a killed command.
 */
function contentOf(folder: string): string | undefined {
  const kind = KINDS.find(([, files]) => files.some((file) => existsSync(join(folder, file))));
  if (kind) return kind[0];
  const files = readdirSync(folder).filter((name) => !name.startsWith('.') && !UNFINISHED_FILE.test(name));
  const more = files.length > MAX_NAMED ? ', ..' : '';
  return files.length === 0 ? undefined : `other files (${files.slice(0, MAX_NAMED).join(', ')}${more})`;
}

const MAX_NAMED = 3;
