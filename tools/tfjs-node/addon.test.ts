import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { folderOfTest } from '../vitest/temporary-folder.js';
import {
  compileAddon,
  compilerArguments,
  isBuilt,
  loadedVersion,
  placeAddon,
  unpackWheel,
  wantedEntries,
} from './addon.js';
import type { Wheel } from './wheels.js';
import { zipArchive } from './zip-archive.js';

const needed = [
  'tensorflow/libtensorflow_cc.so.2',
  'tensorflow/libtensorflow_framework.so.2',
  'tensorflow/include/tensorflow/c/eager/c_api.h',
];
const wheel: Wheel = { filename: 'a.whl', url: 'https://files/a.whl', sha256: 'a'.repeat(64), bytes: 1 };

const entriesOf = (names: readonly string[]) => names.map((fileName) => ({ fileName }));

describe('wantedEntries', () => {
  it('finds the libraries and the headers of the C interface in the layout of every version', () => {
    const headers = [
      'tensorflow/c/c_api.h',
      'tensorflow/tsl/c/tsl_status.h',
      'xla/tsl/c/tsl_status.h',
      'tsl/platform/ctstring_internal.h',
      'tensorflow/core/platform/ctstring.h',
    ];
    const others = [
      'tensorflow/include/',
      'tensorflow/include/tensorflow/c/',
      'tensorflow/include/tensorflow/core/platform/cpu_info.h',
      'tensorflow/include/Eigen/src/c/x.h',
      'tensorflow/python/libtensorflow_cc.so.2',
      'other/include/tensorflow/c/x.h',
      'tensorflow/lite.so',
    ];
    const names = [...needed, ...headers.map((header) => `tensorflow/include/${header}`), ...others];
    expect([...wantedEntries(entriesOf(names)).values()]).toEqual([
      'lib/libtensorflow_cc.so.2',
      'lib/libtensorflow_framework.so.2',
      'include/tensorflow/c/eager/c_api.h',
      ...headers.map((header) => `include/${header}`),
    ]);
  });

  it('fails unless all of them are there', () => {
    expect(() => wantedEntries(entriesOf(needed.slice(1)))).toThrow('the wheel has no lib/libtensorflow_cc.so.2;');
  });
});

it('the compiler gets the paths of headers and sources, and the final path of the libraries', () => {
  const args = compilerArguments({ headers: '/node', binding: '/package/binding', deps: '/package/deps.partial' });
  expect(args).toEqual(
    expect.arrayContaining(['-I/node', '-I/package/deps.partial/include', '-L/package/deps.partial/lib']),
  );
  expect(args).toEqual(expect.arrayContaining(['/package/binding/tfjs_backend.cc', '-l:libtensorflow_cc.so.2']));
  expect(args.at(-1)).toBe('-Wl,-rpath,$ORIGIN/../../deps/lib');
});

describe('an addon', () => {
  let folder = '';
  beforeEach(async () => {
    folder = folderOfTest();
    const archive = join(folder, wheel.filename);
    const files = needed.map((name) => ({ name, content: Buffer.from(name), compress: true }));
    await writeFile(archive, await zipArchive(files));
    await unpackWheel(archive, folder);
  });

  const compiler = async (script: string): Promise<string> => {
    const file = join(folder, 'compiler');
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, 0o755);
    return file;
  };
  const addon = 'echo built > deps.partial/tfjs_binding.node';

  it('is placed with its libraries and without their headers after compilation', async () => {
    await compileAddon(await compiler(`cd ${folder}; ${addon}`), '/node', folder);
    expect(await isBuilt(folder, wheel)).toBe(false);
    await placeAddon(folder, wheel, '2.18.1');
    expect(await isBuilt(folder, wheel)).toBe(true);
    expect(await isBuilt(folder, { ...wheel, sha256: 'b' })).toBe(false);
    expect(await readFile(join(folder, 'lib', 'napi-v8', 'tfjs_binding.node'), 'utf8')).toBe('built\n');
    expect(await readFile(join(folder, 'deps', 'lib', 'libtensorflow_cc.so.2'), 'utf8')).toBe(needed[0]);
    await expect(readFile(join(folder, 'deps', 'include', 'tensorflow', 'c', 'eager', 'c_api.h'))).rejects.toThrow();
  });

  it('replaces an earlier one', async () => {
    await mkdir(join(folder, 'deps', 'lib'), { recursive: true });
    await writeFile(join(folder, 'deps', 'lib', 'old'), '');
    await compileAddon(await compiler(`cd ${folder}; ${addon}`), '/node', folder);
    await placeAddon(folder, wheel, '2.18.1');
    await expect(readFile(join(folder, 'deps', 'lib', 'old'))).rejects.toThrow();
  });

  it('is absent if the compiler fails, and the message has the first error', async () => {
    const failing = await compiler('echo "x.cc:1: note" >&2; echo "x.cc:2: error: no" >&2; exit 1');
    await expect(compileAddon(failing, '/node', folder)).rejects.toThrow(/compiler failed: x\.cc:2: error: no$/);
    await expect(compileAddon(join(folder, 'none'), '/node', folder)).rejects.toThrow(/none failed: no reason given$/);
    expect(await isBuilt(folder, wheel)).toBe(false);
  });

  it('is loaded as the last check', async () => {
    await writeFile(join(folder, 'index.js'), 'throw new TypeError("libcudart.so.12: not found");');
    expect(() => loadedVersion(folder)).toThrow('does not load: TypeError: libcudart.so.12: not found');
  });
});
