import { describe, expect, it } from 'vitest';
import { filesBelow, textOf } from '../workspace/repository.js';
import { blocksOf, regionsOf, runRegions, unrunPrograms } from './regions.js';

const pages = filesBelow('.').filter((path) => path.endsWith('.md') && blocksOf(textOf(path)).length > 0);

describe('a test runs every TypeScript block, word for word', () => {
  const regions = runRegions();

  it.each(pages)('%s', (page) => {
    expect(unrunPrograms(textOf(page), regions)).toEqual([]);
  });

  it('finds a block that no test runs', () => {
    const run = regionsOf(
      `
      import { a, type B } from 'x';
      it('runs', () => {
        // #region lines
        const one = a(1);

        if (one) stop();
        // #endregion lines
      });
    `.replace(/^ {6}/gm, ''),
    );
    const page = (...lines: string[]) => lines.join('\n');
    const good = page('```ts', "import { a } from 'x';", '', 'const one = a(1);', '', 'if (one) stop();', '```');
    expect(unrunPrograms(good, run)).toEqual([]);
    expect(unrunPrograms(good.replace('stop()', 'go()'), run)).toEqual([
      expect.stringMatching(/^block 1 \(ts\) .*go\(\)/s),
    ]);
    expect(unrunPrograms(good.replace('{ a }', '{ a, c }'), run)).toHaveLength(1);
    const change = page(good, '```diff', '  const one = a(1);', '', '- if (one) stop();', '+ if (one) go();', '```');
    expect(unrunPrograms(change, run)).toEqual([expect.stringMatching(/^block 2 \(diff\) .*go\(\)/s)]);
  });
});
