import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The parts of a package.json that building and checking read. */
export interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, string | { readonly '@peftjs/source': string }>>;
}

/** Reads the package.json in a folder. */
export function manifestIn(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

/** The paths, from the working folder, of the sources that a package's entries are built from. */
export function exportedSources(folder: string): string[] {
  return Object.values(manifestIn(folder).exports).flatMap((target) =>
    typeof target === 'string' ? [] : join(folder, target['@peftjs/source']),
  );
}

/** The folders of the packages that nx's `--projects=NAME,NAME` chooses; of all packages without it. */
export function chosenFolders(args: readonly string[]): string[] {
  const names = args.flatMap((arg) =>
    arg.startsWith('--projects=') ? arg.slice('--projects='.length).split(',') : [],
  );
  const folders = readdirSync('packages').map((folder) => join('packages', folder));
  return names.length === 0 ? folders : folders.filter((folder) => names.includes(manifestIn(folder).name));
}
