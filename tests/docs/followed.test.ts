import { describe, expect, it } from 'vitest';
import { actionsOf, shortened } from './followed.js';

describe('what a page has its reader do', () => {
  it('is to write the files that it shows whole and to type its commands, in their order', () => {
    const page = [
      '```sh',
      'npm install a',
      '```',
      '',
      '<<< ../../examples/a.ts',
      '',
      '<!-- elsewhere -->',
      '',
      '```sh',
      'b',
      '```',
    ];
    expect(actionsOf(page.join('\n'))).toEqual([{ commands: 'npm install a\n' }, { file: '../../examples/a.ts' }]);
  });

  it('is done in little', () => {
    expect(shortened('npx peft-bench run --task a --seeds 6')).toBe(
      'npx peft-bench run --preset smoke --task a --seeds 1',
    );
    expect(shortened('npx peft-bench run --preset standard')).toBe('npx peft-bench run --preset smoke');
  });
});
