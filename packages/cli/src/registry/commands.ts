import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { ConfigError } from '@peftjs/core/method';
import { dependencies, findPackage, packageEntry, readManifest } from './packages.js';

/** Adds a command to the program. */
export type AddCommand = (program: Command) => void;

/** The package that compares methods. It depends on this one, not the reverse: it may not be installed. */
const BENCH = '@peftjs/bench';

/** The commands of `BENCH`, for messages where it is not installed. */
const OF_BENCH = ['run', 'report', 'worker'];

/**
 * Loads the commands that installed packages add, by name: a package declares them in its package.json, as exports of
 * its entry `./commands`.
 * @throws ConfigError if a declared export is not a function.
 */
export async function addedCommands(): Promise<ReadonlyMap<string, AddCommand>> {
  const packages = new Set([BENCH, ...(await dependencies())]);
  return new Map((await Promise.all([...packages].map(commandsOf))).flat());
}

async function commandsOf(packageName: string): Promise<[name: string, add: AddCommand][]> {
  const folder = findPackage(packageName);
  const declared = Object.entries((folder && (await readManifest(folder))?.peft?.commands) ?? {});
  if (folder === undefined || declared.length === 0) return [];
  const entry = packageEntry(packageName, folder, '/commands');
  const module = entry === undefined ? {} : ((await import(pathToFileURL(entry).href)) as Record<string, unknown>);
  return declared.map(([name, exportName]) => {
    const add = module[exportName];
    if (typeof add === 'function') return [name, add as AddCommand];
    throw new ConfigError(
      `${packageName} declares the command '${name}' as the export '${exportName}' of ${packageName}/commands, which is not a function`,
      'peft',
    );
  });
}

/** What to install for a command that no installed package has; undefined if none is known to have it. */
export function remedyForMissing(command: string): string | undefined {
  return OF_BENCH.includes(command)
    ? `'${command}' is a command of ${BENCH}; to install it: npm install ${BENCH}`
    : undefined;
}

/** A line of the help that says what the commands are which are not installed. */
export const COMMANDS_OF_BENCH = `To compare methods (${OF_BENCH.join(', ')}): npm install ${BENCH}`;
