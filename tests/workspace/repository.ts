import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The parts of a package.json that the workspace tests read. */
interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly license: string;
  readonly description?: string;
  readonly homepage?: string;
  readonly keywords?: readonly string[];
  readonly files: readonly string[];
  readonly exports: Readonly<Record<string, string | { readonly '@peftjs/source': string }>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peft?: { readonly methods?: Readonly<Record<string, string>> };
}

/** A published package. */
export interface Package {
  /** Its folder below `packages`. */
  readonly folder: string;
  readonly manifest: Manifest;
}

/** The repository's folder. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const generated = /(?:^|\/)(?:node_modules|dist|coverage)$|^results$|^docs\/reference\/api$/;

/** Whether a file holds tests, of `npm test` or of `npm run test:e2e`. */
export function isTestFile(path: string): boolean {
  return /\.(?:test|e2e)\.ts$/.test(path);
}

/** The files in a folder of the repository, by path from its root, without generated and hidden ones. */
export function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (generated.test(path) || (entry.name.startsWith('.') && entry.name !== '.changeset')) return [];
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/** The text of a file in the repository. */
export function textOf(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** Every published package, ordered by name. */
export const packages: readonly Package[] = readdirSync(join(root, 'packages'))
  .sort()
  .map((folder) => ({ folder, manifest: JSON.parse(textOf(`packages/${folder}/package.json`)) as Manifest }));

/** Whether a file is a source of a package rather than a test. */
export function isSource(path: string): boolean {
  return /^packages\/[^/]+\/src\/.*\.ts$/.test(path) && !path.endsWith('.test.ts');
}
