import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** What programs can import. */
export interface Entry {
  /** As it is imported: '@peftjs/core/nn'. */
  readonly specifier: string;
  /** Its folder in the reference: 'core/nn'. */
  readonly name: string;
  /** Path of its source in the repository. */
  readonly source: string;
  /** What it holds, in a line. */
  readonly description: string;
}

interface Manifest {
  readonly name: string;
  readonly description: string;
  readonly exports: Readonly<Record<string, string | { readonly '@peftjs/source': string }>>;
}

/** The entries of every package in the order of the reference: those that most programs start with come first. */
export function allEntries(): Entry[] {
  const folders = readdirSync(join(root, 'packages'));
  const first = ['peftjs', 'core'];
  return [...first, ...folders.filter((folder) => !first.includes(folder))].flatMap(entriesOf);
}

function entriesOf(folder: string): Entry[] {
  const manifest = JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as Manifest;
  return Object.entries(manifest.exports).flatMap(([door, target]) => {
    if (typeof target === 'string') return [];
    const source = join('packages', folder, target['@peftjs/source']);
    return {
      specifier: join(manifest.name, door),
      name: join(folder, door),
      source,
      description: openingComment(source) ?? manifest.description,
    };
  });
}

/** What the first line of a source says of it. */
function openingComment(source: string): string | undefined {
  return /^\/\/ (.+)/.exec(readFileSync(join(root, source), 'utf8'))?.[1];
}
