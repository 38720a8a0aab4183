import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { forNpm, released } from '../../tools/release/readme.js';
import { filesBelow, packages, root, textOf } from './repository.js';

describe.each(packages)('$manifest.name', ({ folder, manifest }) => {
  it('has the same scripts as every package, but for a configuration of its own', () => {
    const isThere = (config: string): boolean => existsSync(join(root, 'packages', folder, config));
    expect(manifest.scripts).toEqual({
      build: isThere('tsup.config.ts') ? 'tsup' : 'tsup --config ../../tsup.shared.ts',
      test: isThere('vitest.config.ts') ? 'vitest run' : 'vitest run --config ../../vitest.shared.ts',
    });
  });

  it('is published with its sources and a README, under Apache-2.0', () => {
    expect(manifest.license).toBe('Apache-2.0');
    expect(manifest.homepage).toBe(`https://github.com/peftjs/peftjs/tree/main/packages/${folder}#readme`);
    expect(manifest.keywords).toContain('fine-tuning');
    expect(manifest.files).toEqual(expect.arrayContaining(['dist', 'src', '!src/**/*.test.ts', 'README.md']));
    expect(existsSync(join(root, 'packages', folder, 'README.md'))).toBe(true);
    expect(filesBelow(`packages/${folder}/src`).filter((path) => path.endsWith('.e2e.ts'))).toEqual([]); // these are not excluded from the package
  });

  it('says on npm what it is', () => {
    expect(manifest.description).toMatch(/^.{20,140}$/);
    expect(manifest.description).not.toContain(': what it does');
  });

  it('has a README whose first screen installs it, runs a program and links its page', () => {
    expect(faultsOf(textOf(`packages/${folder}/README.md`), manifest.name)).toEqual([]);
  });

  it('has a source for each entry, which is found before its build', () => {
    for (const [subpath, target] of Object.entries(manifest.exports)) {
      if (typeof target === 'string') continue;
      expect(Object.keys(target), subpath).toEqual(['@peftjs/source', 'types', 'default']);
      expect(existsSync(join(root, 'packages', folder, target['@peftjs/source'])), subpath).toBe(true);
    }
  });

  it('has TensorFlow.js as a peer dependency, so that there is one copy of it, unless it is all that is installed', () => {
    const own = Object.keys(manifest.dependencies ?? {}).filter((name) => /^@tensorflow\/tfjs(?:-core)?$/.test(name));
    expect(own).toEqual(['bench', 'cli', 'peftjs'].includes(folder) ? ['@tensorflow/tfjs-core'] : []);
  });
});

/** What the first screen of a README lacks, and its links that npm would break. */
function faultsOf(readme: string, name: string): string[] {
  const lines = readme.split('\n');
  const second = lines.flatMap((line, index) => (line.startsWith('## ') ? [index] : []))[1];
  const screen = lines.slice(0, Math.min(second ?? Infinity, 60)).join('\n');
  const targets = [...readme.replace(/^```[\s\S]*?^```/gm, '').matchAll(/\]\(([^)\s]+)/g)].map(([, to = '']) => to);
  const lacks = [
    [!new RegExp(`^npm install (?:\\S+ )*${name}(?: |$)`, 'm').test(screen), `no 'npm install ${name}'`],
    [!/^```ts$/m.test(screen), 'no program'],
    [!screen.includes(DOCS), `no link to a page of ${DOCS}`],
    [readme.includes('for peftjs: what it does'), 'what it does is left open'],
  ] as const;
  return [
    ...lacks.flatMap(([isMissing, fault]) => (isMissing ? [fault] : [])),
    ...targets.filter((to) => !/^(?:https:\/\/|#)/.test(to)).map((to) => `the relative link ${to}`),
  ];
}

const DOCS = 'https://github.com/peftjs/peftjs/blob/main/docs/';

it('and a README without these would be found', () => {
  const readme = [
    '# @peftjs/x',
    'It does [this](docs/x.md).',
    '```sh\nnpm install @peftjs/xy\n```',
    '## Use\n## More\n```ts\nx();\n```',
  ].join('\n');
  expect(faultsOf(readme, '@peftjs/x')).toEqual([
    "no 'npm install @peftjs/x'",
    'no program',
    `no link to a page of ${DOCS}`,
    'the relative link docs/x.md',
  ]);
});

it("shows the project's README on the npm page of peftjs, with whole addresses", () => {
  const readme = textOf('README.md');
  expect(textOf('packages/peftjs/README.md'), 'npx tsx tools/release/readme.ts writes it').toBe(forNpm(readme));
  expect(readme.trimEnd().split('\n').length).toBeLessThanOrEqual(110);
});

it('says that the packages are not on npm only until the first release', () => {
  const { version } = JSON.parse(textOf('packages/peftjs/package.json')) as { version: string };
  for (const page of ['README.md', 'docs/install.md']) {
    expect(released(textOf(page)), page).not.toContain('not on npm');
    expect(textOf(page).includes('not on npm'), `${page} of ${version}`).toBe(version === '0.0.0');
  }
});

it.each([
  ['[a](docs/install.md#x)', '[a](https://github.com/peftjs/peftjs/blob/main/docs/install.md#x)'],
  ['[b](packages/core)', '[b](https://github.com/peftjs/peftjs/tree/main/packages/core)'],
  ['[c](https://example.org) [d](#e)', '[c](https://example.org) [d](#e)'],
  ['![f](docs/images/sora.svg)', '![f](https://raw.githubusercontent.com/peftjs/peftjs/main/docs/images/sora.svg)'],
])('%s becomes %s', (markdown, whole) => {
  expect(forNpm(markdown)).toBe(whole);
});
