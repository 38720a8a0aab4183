import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** An entry point: a module that programs can import. */
export interface Entry {
  /** The import specifier, e.g. '@peftjs/core/nn'. */
  readonly specifier: string;
  /** The folder in the reference, e.g. 'core/nn'. */
  readonly name: string;
  /** The path of the source in the repository. */
  readonly source: string;
  /** A one-line description. */
  readonly description: string;
}

interface Manifest {
  readonly name: string;
  readonly description: string;
  readonly exports: Readonly<Record<string, string | { readonly '@peftjs/source': string }>>;
}

/** Returns the entry points of all packages in the order of the reference: the ones most programs start with first. */
export function allEntries(): Entry[] {
  const folders = readdirSync(join(root, 'packages'));
  const first = ['peftjs', 'core'];
  return [...first, ...folders.filter((folder) => !first.includes(folder))].flatMap(entriesOf);
}

/** Doors for packages that add commands to the program. They change with it, and programs have no use for them. */
const ofCommands = ['@peftjs/cli', '@peftjs/cli/format', '@peftjs/cli/results', '@peftjs/cli/trials'];

function entriesOf(folder: string): Entry[] {
  const manifest = JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as Manifest;
  return Object.entries(manifest.exports).flatMap(([door, target]) => {
    const specifier = join(manifest.name, door);
    if (typeof target === 'string' || ofCommands.includes(specifier)) return [];
    const source = join('packages', folder, target['@peftjs/source']);
    return {
      specifier,
      name: join(folder, door),
      source,
      description: openingComment(source) ?? manifest.description,
    };
  });
}

/** Returns the comment on the first line of a source, if there is one. */
function openingComment(source: string): string | undefined {
  return /^\/\/ (.+)/.exec(readFileSync(join(root, source), 'utf8'))?.[1];
}
