import { describe, expect, it } from 'vitest';
import { actionsOf, shortened } from './followed.js';

describe('the actions of a page', () => {
  it('are writing the files that it shows in full and typing its commands, in order', () => {
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

  it('are shortened', () => {
    expect(shortened('npx peft-bench run --task a --seeds 6')).toBe(
      'npx peft-bench run --rows 64 --preset smoke --task a --seeds 1',
    );
    expect(shortened('npx peft-bench run --preset standard')).toBe('npx peft-bench run --rows 64 --preset smoke');
  });
});
