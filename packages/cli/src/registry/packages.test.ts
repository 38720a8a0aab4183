import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { onWarning } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { numericVersions } from '../study/trials.js';
import { main, program } from '../commands/main.js';
import { loading } from './loading.js';
import { everyMethod, resolveMethod } from './methods.js';
import { packageFolder } from './packages.js';

const before = process.cwd();
let folder: string;

/** Installs a package in the folder where the command runs. */
async function install(name: string, manifest: object, entry = ''): Promise<void> {
  const path = join(folder, 'node_modules', name);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'package.json'), JSON.stringify({ name, type: 'module', main: 'index.js', ...manifest }));
  await writeFile(join(path, 'index.js'), entry);
}

/** The package.json of the folder where the command runs, with a dependency. */
function manifestOn(name: string): string {
  return JSON.stringify({ name: 'a..b', dependencies: { [name]: '1' }, peft: { methods: { up: 'up' } } });
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'peft-bench-packages-')));
  await install('@peftjs/core', { version: '99.0.0' });
  await install('onnxruntime-node', { version: '99.0.0' });
  await install('@peftjs/lora', { version: '99.0.0', peft: { methods: { lora: 'other' } } });
  const functions = 'parseConfig() {}, adapt() {}, toFile() {}, fromFile() {}';
  const method = `export const theirs = { name: 'theirs', peftTypes: ['THEIRS'], capabilities: {}, ${functions} };`;
  await install('their-method', { version: '1.2.3', peft: { methods: { theirs: 'theirs' } } }, method);
  await install('same-method', { peft: { methods: { lora: 'theirs' } } }, method.replace("'theirs'", "'lora'"));
  await install('half-method', { peft: { methods: { half: 'half' } } }, `export const half = { ${functions} };`);
  await install('thrown-method', { peft: { methods: { thrown: 'a' } } }, "throw new Error('not yet\\n  written');");
  await install('entryless-method', { main: 'gone.js', peft: { methods: { gone: 'a' } }, exports: {} });
  const exports = { './commands': './index.js' };
  const action = "() => { throw new TypeError('a mistake'); }";
  const add = `export const addTheirs = (program) => program.command('theirs').action(${action}); export const addNothing = 1;`;
  await install('their-commands', { exports, peft: { commands: { theirs: 'addTheirs' } } }, add);
  await install('same-commands', { exports, peft: { commands: { report: 'addTheirs' } } }, add);
  await install('no-commands', { exports, peft: { commands: { none: 'addNothing' } } }, add);
  await writeFile(join(folder, 'package.json'), manifestOn('their-commands'));
  await mkdir(join(folder, 'node_modules/below/node_modules'), { recursive: true });
  process.chdir(folder);
});
afterAll(async () => {
  process.chdir(before);
  await rm(folder, { recursive: true });
});

describe('where the command runs, with other versions of packages that peft-bench imports', () => {
  it('records the versions that compute', async () => {
    expect(Object.entries(await numericVersions()).filter(([, version]) => version === '99.0.0')).toEqual([]);
  });

  it('uses the method of the version that it imports', async () => {
    const { offer, method } = await resolveMethod('lora');
    expect([offer.version === '99.0.0', offer.exportName, method.name]).toEqual([false, 'lora', 'lora']);
  });

  it('finds what is only installed there', async () => {
    const { offer } = await resolveMethod('their-method');
    expect(offer).toMatchObject({
      name: 'theirs',
      version: '1.2.3',
      folder: join(folder, 'node_modules/their-method'),
    });
  });
});

describe('methods of packages that are not finished, or claim the name of another', () => {
  beforeAll(async () => {
    const names = ['same-method', 'half-method', 'thrown-method', 'entryless-method', 'their-method'];
    const dependencies = Object.fromEntries(names.map((name) => [name, '1']));
    await writeFile(join(folder, 'package.json'), JSON.stringify({ dependencies }));
  });
  afterAll(() => writeFile(join(folder, 'package.json'), manifestOn('their-commands')));

  it('do not stop opening adapters of others', async () => {
    const warnings: string[] = [];
    const restore = onWarning((warning) => void warnings.push(warning));
    const methods = await everyMethod();
    restore();
    expect(methods.map(({ name }) => name)).toEqual(expect.arrayContaining(['lora', 'sora', 'theirs']));
    expect(methods.find(({ name }) => name === 'lora')).toBe(lora);
    expect(warnings.sort()).toEqual([
      "the method 'gone' of entryless-method does not load and is left out: the package 'entryless-method' has no entry point to import",
      expect.stringMatching(/^the method 'half' of half-method .* an object without name, capabilities, peftTypes$/),
      "the method 'thrown' of thrown-method does not load and is left out: not yet written",
    ]);
  });

  it('are refused where they are asked for by name', async () => {
    await expect(resolveMethod('lora')).rejects.toThrow(/is claimed by @peftjs\/lora and same-method/);
    await expect(resolveMethod('thrown')).rejects.toThrow(/not yet/);
  });
});

it('a package is found where the program is installed, before where the command runs', async () => {
  const program = join(folder, 'isolated');
  await mkdir(join(program, 'node_modules'), { recursive: true });
  await cp(join(folder, 'node_modules/their-method'), join(program, 'node_modules/their-method'), { recursive: true });
  expect(await packageFolder('their-method')).toBe(join(folder, 'node_modules/their-method'));
  vi.stubEnv('PEFTJS_ORIGIN', pathToFileURL(join(program, 'bin.js')).href);
  expect(await packageFolder('their-method')).toBe(join(program, 'node_modules/their-method'));
  vi.unstubAllEnvs();
});

describe('the package.json of the project', () => {
  const path = (): string => join(folder, 'package.json');
  afterAll(() => writeFile(path(), manifestOn('their-commands')));

  it('may start with a byte order mark, as for npm', async () => {
    await writeFile(path(), `\ufeff${manifestOn('their-method')}`);
    expect((await resolveMethod('theirs')).offer.packageName).toBe('their-method');
  });

  it('is named if it is broken', async () => {
    await writeFile(path(), '{"name": "a",}');
    await expect(everyMethod()).rejects.toThrow(`${path()} cannot be read: `);
  });
});

describe('a name that is not a package', () => {
  it.each(['.', '..', '../..', './node_modules/their-method', 'a/b'])('%s is not a method', async (name) => {
    await expect(resolveMethod(name)).rejects.toThrow(/is unknown/);
  });

  it('gets no advice to install it', async () => {
    await expect(packageFolder('../model')).rejects.toThrow(
      /^'..\/model' is neither a folder nor an installed package$/,
    );
    await expect(packageFolder('no-such-model')).rejects.toMatchObject({
      code: new CheckpointError('').code,
      message: expect.stringContaining('if you mean the npm package of that name and trust it: npm install') as string,
    });
  });
});

it('a folder without a model is not taken for a package that is not installed', async () => {
  await mkdir(join(folder, 'no-model'));
  await expect(fromPretrained('no-model', loading)).rejects.toThrow(/^no model in no-model: expected .*config\.json/);
});

describe('the commands of packages', () => {
  it('are added to the program, by a dependency of the project and by the package that compares methods', async () => {
    const names = (await program()).commands.map((command) => command.name());
    expect(names).toEqual(expect.arrayContaining(['train', 'run', 'report', 'theirs']));
  });

  it('are not loaded for a command of the program itself', async () => {
    expect((await program('train')).commands.map((command) => command.name())).not.toContain('theirs');
  });

  it('end with the stack of an error that was not thrown on purpose', async () => {
    const { exitCode } = process;
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    await main(['node', 'peftjs', 'theirs']);
    const said = write.mock.calls.join('');
    write.mockRestore();
    process.exitCode = exitCode;
    expect(said).toMatch(/^\S+: a mistake\nTypeError: a mistake\n +at .*their-commands/);
  });

  it('have different names', async () => {
    await writeFile(join(folder, 'package.json'), manifestOn('same-commands'));
    await expect(program()).rejects.toThrow("the command 'report' is declared by more than one package");
  });

  it('must be functions', async () => {
    await writeFile(join(folder, 'package.json'), manifestOn('no-commands'));
    await expect(program()).rejects.toThrow(
      "no-commands declares the command 'none' as the export 'addNothing' of no-commands/commands, which is not a function",
    );
  });
});
