import { symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { generateFiles, readJson, updateJson, type GeneratorCallback, type Tree } from '@nx/devkit';
import { methodNames } from './names.js';

/** The options of `npx nx g @peftjs/tools:method`. */
export interface MethodOptions {
  /** The name of the method, e.g. `my-method`. */
  readonly name: string;
}

const FILES = fileURLToPath(new URL('files', import.meta.url));

/**
 * Makes packages/<name>, its page and its changeset, and adds the package to the command line and the lockfile. The new
 * method is LoRA under another name: it builds and passes the conformance suite, and its author then replaces the
 * mathematics.
 *
 * @returns a callback that links the package into node_modules, as `npm install` would
 * @throws NameError if the name is invalid or already in use.
 */
export function methodGenerator(tree: Tree, options: MethodOptions): GeneratorCallback {
  const names = methodNames(tree, options.name);
  const { name } = names;
  const { version } = readJson<{ version: string }>(tree, 'packages/core/package.json'); // all packages have the same
  generateFiles(tree, join(FILES, 'package'), `packages/${name}`, { ...names, version });
  generateFiles(tree, join(FILES, 'beside'), '.', names);
  offerToCli(tree, name, version);
  lock(tree, name);
  return () => link(tree.root, name);
}

const CLI = 'packages/cli/package.json';

/** The fields of a package.json that a lockfile repeats, in its order. */
const LOCKED = [
  'name',
  'version',
  'license',
  'dependencies',
  'devDependencies',
  'engines',
  'peerDependencies',
] as const;

/** A package.json with dependencies. */
type Manifest = { readonly dependencies: Record<string, string> } & Readonly<Record<string, unknown>>;

/** Adds the package to the command line's dependencies, among which it finds methods. */
function offerToCli(tree: Tree, name: string, version: string): void {
  updateJson<Manifest>(tree, CLI, (manifest) => ({
    ...manifest,
    dependencies: sorted({ ...manifest.dependencies, [`@peftjs/${name}`]: `^${version}` }),
  }));
}

/** Updates the lockfile as `npm install` would. */
function lock(tree: Tree, name: string): void {
  const folder = `packages/${name}`;
  const { dependencies: ofCli } = readJson<Manifest>(tree, CLI);
  const own = readJson<Manifest>(tree, `${folder}/package.json`);
  updateJson<{ packages: Record<string, object> }>(tree, 'package-lock.json', ({ packages, ...rest }) => ({
    ...rest,
    packages: sorted({
      ...packages,
      'packages/cli': { ...packages['packages/cli'], dependencies: ofCli },
      [`node_modules/@peftjs/${name}`]: { resolved: folder, link: true },
      [folder]: Object.fromEntries(LOCKED.map((field) => [field, own[field]])),
    }),
  }));
}

/** Sorts keys in npm's order. */
function sorted<T>(table: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(table).sort(([a], [b]) => a.localeCompare(b, 'en')));
}

async function link(root: string, name: string): Promise<void> {
  const scope = join(root, 'node_modules', '@peftjs');
  await symlink(relative(scope, join(root, 'packages', name)), join(scope, name), 'junction');
}
