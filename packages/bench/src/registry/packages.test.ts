import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { CheckpointError } from '@peftjs/core/method';

const before = process.cwd();
let folder: string;

/** Installs a package in the folder where the command runs. */
async function install(name: string, manifest: object, entry = ''): Promise<void> {
  const path = join(folder, 'node_modules', name);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'package.json'), JSON.stringify({ name, type: 'module', main: 'index.js', ...manifest }));
  await writeFile(join(path, 'index.js'), entry);
}

/** Loads the modules as a process started in that folder would. */
async function startedThere() {
  vi.resetModules();
  const [packages, methods, versions] = await Promise.all([
    import('./packages.js'),
    import('./methods.js'),
    import('../study/trials.js'),
  ]);
  return { ...packages, ...methods, ...versions };
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'peft-bench-packages-')));
  await install('@peftjs/core', { version: '99.0.0' });
  await install('onnxruntime-node', { version: '99.0.0' });
  await install('@peftjs/lora', { version: '99.0.0', peft: { methods: { lora: 'other' } } });
  const method = 'export const theirs = { parseConfig() {}, adapt() {}, toFile() {}, fromFile() {} };';
  await install('their-method', { version: '1.2.3', peft: { methods: { theirs: 'theirs' } } }, method);
  await writeFile(join(folder, 'package.json'), '{ "name": "a..b", "peft": { "methods": { "up": "up" } } }');
  await mkdir(join(folder, 'node_modules/below/node_modules'), { recursive: true });
  process.chdir(folder);
});
afterAll(async () => {
  process.chdir(before);
  vi.resetModules();
  await rm(folder, { recursive: true });
});

describe('where the command runs, with other versions of packages that peft-bench imports', () => {
  it('records the versions that compute', async () => {
    const { numericVersions } = await startedThere();
    expect(Object.entries(await numericVersions()).filter(([, version]) => version === '99.0.0')).toEqual([]);
  });

  it('uses the method of the version that it imports', async () => {
    const { resolveMethod } = await startedThere();
    const { offer, method } = await resolveMethod('lora');
    expect([offer.version === '99.0.0', offer.exportName, method.name]).toEqual([false, 'lora', 'lora']);
  });

  it('finds what is only installed there', async () => {
    const { resolveMethod } = await startedThere();
    const { offer } = await resolveMethod('their-method');
    expect(offer).toMatchObject({
      name: 'theirs',
      version: '1.2.3',
      folder: join(folder, 'node_modules/their-method'),
    });
  });
});

describe('a name that is not a package', () => {
  it.each(['.', '..', '../..', './node_modules/their-method', 'a/b'])('%s is not a method', async (name) => {
    const { resolveMethod } = await startedThere();
    await expect(resolveMethod(name)).rejects.toThrow(/is unknown/);
  });

  it('gets no advice to install it', async () => {
    const { packageFolder } = await startedThere();
    await expect(packageFolder('../model')).rejects.toThrow(
      /^'..\/model' is neither a folder nor an installed package$/,
    );
    await expect(packageFolder('no-such-model')).rejects.toMatchObject({
      code: new CheckpointError('').code,
      message: expect.stringContaining('if you mean the npm package of that name and trust it: npm install') as string,
    });
  });
});
