import { symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatFiles, generateFiles, readJson, updateJson, type GeneratorCallback, type Tree } from '@nx/devkit';
import { methodNames } from './names.js';

/** Options of `npx nx g @peftjs/tools:method`. */
export interface MethodOptions {
  readonly name: string;
}

const FILES = fileURLToPath(new URL('files', import.meta.url));

/**
 * Makes packages/<name>, its page and its changeset, and makes it known to peft-bench and to the lockfile. What it makes is LoRA
 * under another name: it builds and passes the conformance suite, and its author puts the mathematics in LoRA's place.
 *
 * @returns what links the package into node_modules, as `npm install` would
 * @throws NameError when the name is not one, or is taken.
 */
export async function methodGenerator(tree: Tree, options: MethodOptions): Promise<GeneratorCallback> {
  const names = methodNames(tree, options.name);
  const { name } = names;
  const { version } = readJson<{ version: string }>(tree, 'packages/core/package.json'); // all packages have the same
  generateFiles(tree, join(FILES, 'package'), `packages/${name}`, { ...names, version });
  generateFiles(tree, join(FILES, 'beside'), '.', names);
  offerToBench(tree, name, version);
  lock(tree, name);
  await formatFiles(tree);
  return () => link(tree.root, name);
}

const BENCH = 'packages/bench/package.json';

/** What a lockfile repeats of a package.json, in its order. */
const LOCKED = [
  'name',
  'version',
  'license',
  'dependencies',
  'devDependencies',
  'engines',
  'peerDependencies',
] as const;

type Manifest = { readonly dependencies: Record<string, string> } & Readonly<Record<string, unknown>>;

/** peft-bench finds the methods of its own dependencies. */
function offerToBench(tree: Tree, name: string, version: string): void {
  updateJson<Manifest>(tree, BENCH, (manifest) => ({
    ...manifest,
    dependencies: sorted({ ...manifest.dependencies, [`@peftjs/${name}`]: `^${version}` }),
  }));
}

/** What `npm install` would write. */
function lock(tree: Tree, name: string): void {
  const folder = `packages/${name}`;
  const { dependencies: ofBench } = readJson<Manifest>(tree, BENCH);
  const own = readJson<Manifest>(tree, `${folder}/package.json`);
  updateJson<{ packages: Record<string, object> }>(tree, 'package-lock.json', ({ packages, ...rest }) => ({
    ...rest,
    packages: sorted({
      ...packages,
      'packages/bench': { ...packages['packages/bench'], dependencies: ofBench },
      [`node_modules/@peftjs/${name}`]: { resolved: folder, link: true },
      [folder]: Object.fromEntries(LOCKED.map((field) => [field, own[field]])),
    }),
  }));
}

/** In npm's order. */
function sorted<T>(table: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(table).sort(([a], [b]) => a.localeCompare(b, 'en')));
}

async function link(root: string, name: string): Promise<void> {
  const scope = join(root, 'node_modules', '@peftjs');
  await symlink(relative(scope, join(root, 'packages', name)), join(scope, name), 'junction');
}
