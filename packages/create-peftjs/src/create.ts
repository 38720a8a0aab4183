import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A starter: folders of `templates`, the later ones over the earlier, and what it is. */
interface Starter {
  readonly layers: readonly string[];
  readonly what: string;
  /** The commands from an empty folder to the first prediction. */
  readonly next: readonly string[];
}

const ofNode = ['npm install', 'npm run train', 'npm run predict "The screen is black since this morning."'];

/** The starters, by name. */
export const starters = {
  node: { layers: ['data', 'program', 'node'], what: 'train, predict and serve in Node', next: ofNode },
  bun: {
    layers: ['data', 'program', 'node', 'bun'],
    what: 'the same in Bun',
    next: ofNode.map((command) => command.replace('npm', 'bun')),
  },
  deno: { layers: ['data', 'program', 'node', 'deno'], what: 'the same in Deno', next: ofNode },
  docker: {
    layers: ['data', 'program', 'node', 'docker'],
    what: 'train and serve in a container',
    next: ['docker build -t my-classifier .', 'docker run --rm -p 8123:8123 my-classifier'],
  },
  vite: {
    layers: ['data', 'page', 'vite'],
    what: 'train in a page, in a Web Worker',
    next: ['npm install', 'npm run dev'],
  },
  next: {
    layers: ['data', 'program', 'page', 'next'],
    what: 'an app with Next.js: predict on the server, train in the page',
    next: ['npm install', 'npm run train', 'npm run dev'],
  },
} as const satisfies Readonly<Record<string, Starter>>;

/** The name of a starter. */
export type StarterName = keyof typeof starters;

/** The project cannot be made; the message says why in one line. Not core's error: this package depends on nothing. */
export class CreateError extends Error {
  readonly code = 'PEFT_CREATE';
}

/** What stops a folder from being written, by the code of the operating system's error. */
const STOPS: Readonly<Record<string, string>> = {
  EEXIST: 'a file has that name; name another folder',
  ENOTDIR: 'a part of its path is a file; name another folder',
  ENOENT: 'there is no such place; name another folder',
  EACCES: 'you may not write there; change the permissions, or name another folder',
  EPERM: 'you may not write there; change the permissions, or name another folder',
  EROFS: 'its file system is read-only; name another folder',
  ENOSPC: 'the disk is full; make room on it',
};

/** Writes into a folder. @throws CreateError that says what stops it */
async function writing<T>(folder: string, write: () => Promise<T>): Promise<T> {
  return write().catch((cause: unknown) => {
    const { code = '', message } = cause as NodeJS.ErrnoException;
    throw new CreateError(`${folder} cannot be written: ${STOPS[code] ?? message}`, { cause });
  });
}

/** A package.json, as far as layers add to each other's. */
type Manifest = Record<string, string | boolean | Record<string, string>>;

const templates = fileURLToPath(new URL('../templates', import.meta.url));

/**
 * Writes a starter into a folder, which is made if it does not exist.
 * @returns the paths of the files in the folder, sorted
 * @throws CreateError when the folder has anything but `.git` in it already, or cannot be written.
 */
export async function createProject(folder: string, name: StarterName): Promise<string[]> {
  const into = resolve(folder);
  const entries = await writing(folder, () => mkdir(into, { recursive: true }).then(() => readdir(into)));
  const present = entries.find((file) => file !== '.git');
  if (present !== undefined) throw new CreateError(`${folder} is not empty: name a new folder, or remove ${present}`);
  const files = new Map<string, Uint8Array>();
  let manifest: Manifest = { name: packageName(into) };
  for (const layer of starters[name].layers) {
    for (const [path, bytes] of await filesIn(join(templates, layer))) {
      if (path === 'package.json') manifest = merged(manifest, JSON.parse(bytes.toString()) as Manifest);
      else files.set(path.replace(/(^|\/)_(gitignore|dockerignore)$/, '$1.$2'), bytes); // npm leaves dotfiles out
    }
  }
  const { dependencies } = manifest;
  if (typeof dependencies === 'object') dependencies['peftjs'] = `^${await ownVersion()}`; // all packages have one version
  files.set('package.json', Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
  await writing(folder, async () => {
    for (const [path, bytes] of files) {
      await mkdir(dirname(join(into, path)), { recursive: true });
      await writeFile(join(into, path), bytes);
    }
  });
  return [...files.keys()].sort();
}

async function filesIn(folder: string): Promise<[path: string, bytes: Buffer][]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = found.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name));
  return Promise.all(
    paths.map(async (path): Promise<[string, Buffer]> => [
      path.slice(folder.length + 1).replaceAll('\\', '/'),
      await readFile(path),
    ]),
  );
}

/** A folder's name as npm allows it. */
function packageName(folder: string): string {
  const name = basename(folder)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-');
  return name.replace(/^[._-]+/, '') || 'my-classifier';
}

function merged(below: Manifest, above: Manifest): Manifest {
  const all = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const known = all[key];
    all[key] = typeof known === 'object' && typeof value === 'object' ? { ...known, ...value } : value;
  }
  return all;
}

async function ownVersion(): Promise<string> {
  const { version } = JSON.parse(await readFile(join(templates, '../package.json'), 'utf8')) as { version: string };
  return version;
}
