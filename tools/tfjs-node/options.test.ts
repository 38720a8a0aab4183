import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BuildError } from './build-error.js';
import { parseOptions } from './options.js';

describe('parseOptions', () => {
  it('builds the package for CPUs on the pinned TensorFlow from PyPI by default', () => {
    expect(parseOptions(['--into', '/tmp/there'], {})).toEqual({
      packageName: 'tfjs-node',
      tensorflow: '2.18.1',
      into: '/tmp/there',
      cache: join(homedir(), '.cache', 'peftjs', 'wheels'),
      headers: undefined,
      index: 'https://pypi.org/simple',
    });
  });

  it('uses the index of pip and the cache of the desktop unless a flag overrides them', () => {
    const environment = { PIP_INDEX_URL: 'http://mirror/simple', XDG_CACHE_HOME: '/cache' };
    expect(parseOptions(['--into', 'x'], environment)).toMatchObject({
      index: 'http://mirror/simple',
      cache: '/cache/peftjs/wheels',
      into: join(process.cwd(), 'x'),
    });
    const flags = ['--into', 'x', '--index', 'https://other/simple', '--cache', '/wheels', '--headers', '/include'];
    expect(parseOptions(flags, environment)).toMatchObject({
      index: 'https://other/simple',
      cache: '/wheels',
      headers: '/include',
    });
  });

  it.each([
    [[], /--into is missing/],
    [['--into', 'x', '--package', 'tfjs'], /--package is 'tfjs'; expected tfjs-node or tfjs-node-gpu/],
    [['--into', 'x', '--tensorflow', '2.11.0'], /'2\.11\.0'; tfjs-node supports releases from 2\.12\.0 to 2\.21\.x/],
    [['--into', 'x', '--tensorflow', '2.18'], /'2\.18'/],
    [['--into', 'x', '--tensorflow', '1.15.0'], /'1\.15\.0'/],
    [['--into', 'x', '--package', 'tfjs-node-gpu', '--tensorflow', '2.14.0'], /tfjs-node-gpu supports .* 2\.15\.0/],
    [['--into', 'x', '--index', 'pypi.org'], /the package index is 'pypi\.org'/],
    [['--onto', 'x'], /'--onto'/],
    [['x'], /x/],
  ])('rejects %j in one line', (args, words) => {
    const refused = (() => {
      try {
        return parseOptions(args, {});
      } catch (error) {
        return error;
      }
    })();
    expect(refused).toBeInstanceOf(BuildError);
    expect(refused).toMatchObject({ kind: 'usage', message: expect.stringMatching(words) as string });
    expect((refused as BuildError).message).not.toContain('\n');
  });
});
