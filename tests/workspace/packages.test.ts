import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, packages, root, textOf } from './repository.js';

const scripts = {
  build: 'tsup',
  test: 'vitest run',
  typecheck: 'tsc',
  lint: 'eslint .',
  'check:package': 'publint --strict && attw --pack --profile esm-only && size-limit',
};

describe.each(packages)('$manifest.name', ({ folder, manifest }) => {
  it('has the same scripts as every package', () => {
    expect(manifest.scripts).toEqual(scripts);
  });

  it('is published with its sources and a README, under Apache-2.0', () => {
    expect(manifest.license).toBe('Apache-2.0');
    expect(manifest.homepage).toBe(`https://github.com/peftjs/peftjs/tree/main/packages/${folder}#readme`);
    expect(manifest.keywords).toContain('fine-tuning');
    expect(manifest.files).toEqual(expect.arrayContaining(['dist', 'src', '!src/**/*.test.ts', 'README.md']));
    expect(existsSync(join(root, 'packages', folder, 'README.md'))).toBe(true);
    expect(filesBelow(`packages/${folder}/src`).filter((path) => path.endsWith('.e2e.ts'))).toEqual([]); // these are not excluded from the package
  });

  it('has a source for each entry, which is found before its build', () => {
    for (const [subpath, target] of Object.entries(manifest.exports)) {
      if (typeof target === 'string') continue;
      expect(Object.keys(target), subpath).toEqual(['@peftjs/source', 'types', 'default']);
      expect(existsSync(join(root, 'packages', folder, target['@peftjs/source'])), subpath).toBe(true);
    }
  });

  it('has TensorFlow.js as a peer dependency, so that there is one copy of it, unless it is all that is installed', () => {
    const own = Object.keys(manifest.dependencies ?? {}).filter((name) => name === '@tensorflow/tfjs');
    expect(own).toEqual(['bench', 'peftjs'].includes(folder) ? ['@tensorflow/tfjs'] : []);
  });
});

it("shows the project's README on the npm page of peftjs, with links that work there", () => {
  const readme = textOf('README.md');
  expect(textOf('packages/peftjs/README.md')).toBe(readme);
  expect(
    [...readme.matchAll(/\]\(([^)]+)\)/g)].map(([, target]) => target).filter((to) => !to?.startsWith('https://')),
  ).toEqual([]);
  expect(readme.trimEnd().split('\n').length).toBeLessThanOrEqual(120);
});
