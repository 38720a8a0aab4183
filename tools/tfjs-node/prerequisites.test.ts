import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../vitest/temporary-folder.js';
import { checkPlatform, checkSpace, findCompiler, findHeaders } from './prerequisites.js';

const folder = temporaryFolder();
beforeAll(async () => {
  await writeFile(join(folder, 'clang++'), '#!/bin/sh\n');
  await chmod(join(folder, 'clang++'), 0o755);
  await writeFile(join(folder, 'g++'), 'not executable');
  await mkdir(join(folder, 'node_modules', 'node-api-headers', 'include'), { recursive: true });
});

it('accepts only Linux on x64 with glibc', () => {
  const fits = { platform: 'linux', arch: 'x64', glibc: '2.36' };
  expect(() => checkPlatform(fits)).not.toThrow();
  expect(() => checkPlatform({ ...fits, platform: 'darwin' })).toThrow(/this is darwin\/x64; .* linux\/x64/);
  expect(() => checkPlatform({ ...fits, arch: 'arm64' })).toThrow(/this is linux\/arm64;/);
  expect(() => checkPlatform({ ...fits, glibc: undefined })).toThrow(/this is linux\/x64 without glibc;/);
});

describe('findCompiler', () => {
  it('returns the first executable of the usual names', async () => {
    expect(await findCompiler({ PATH: `/nowhere:${folder}` })).toBe(join(folder, 'clang++'));
  });

  it('returns the compiler in CXX, a name or a path', async () => {
    expect(await findCompiler({ PATH: folder, CXX: 'clang++' })).toBe(join(folder, 'clang++'));
    expect(await findCompiler({ CXX: join(folder, 'clang++') })).toBe(join(folder, 'clang++'));
  });

  it('says what to install if there is none', async () => {
    await expect(findCompiler({ PATH: '/nowhere' })).rejects.toThrow(
      /no C\+\+ compiler in PATH .* apt-get install g\+\+/,
    );
    await expect(findCompiler({ PATH: folder, CXX: 'icpc' })).rejects.toThrow(/CXX is 'icpc', which cannot be found/);
  });
});

describe('findHeaders', () => {
  it('looks in npm packages, and in a named folder only', async () => {
    const include = join(folder, 'node_modules', 'node-api-headers', 'include');
    expect(() => findHeaders(include, '/n/bin/node', folder)).toThrow(
      `node_api.h is not in ${include}; install it with: npm`,
    );
    await writeFile(join(include, 'node_api.h'), '');
    expect(findHeaders(include, '/n/bin/node', '/nowhere')).toBe(include);
  });

  it('prefers those next to Node', async () => {
    const beside = join(folder, 'include', 'node');
    await mkdir(beside, { recursive: true });
    await writeFile(join(beside, 'node_api.h'), '');
    expect(findHeaders(undefined, join(folder, 'bin', 'node'), folder)).toBe(beside);
  });
});

it('reports a disk that is too small, with both sizes', async () => {
  await expect(checkSpace(folder, 1)).resolves.toBeUndefined();
  await expect(checkSpace(folder, 1e18)).rejects.toThrow(/ needs 1000000000000 MB of disk space, \d+ MB are free$/);
});
