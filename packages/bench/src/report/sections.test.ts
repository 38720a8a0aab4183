import { expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import { reportBlocks } from './sections.js';
import { summarise } from './statistics/summary.js';

const trialAt = (seed: number, from: string, to: string) => ({
  ...syntheticTrial({ task: 'uci-sentiment', method: 'lora', rank: 4, seed }),
  startedAt: `2026-11-25T01:${from}.000Z`,
  finishedAt: `2026-11-25T01:${to}.000Z`,
});
const shown = (...trials: readonly ReturnType<typeof trialAt>[]): string =>
  JSON.stringify(reportBlocks(trials, summarise(trials, { reference: 'lora' })));

it('the report says that trials ran at once only if they did', () => {
  const first = trialAt(1, '00:00', '00:40');
  expect(shown(first, trialAt(2, '00:40', '01:20'))).toContain('Times depend on the machine: compare them');
  expect(shown(trialAt(2, '00:39', '01:20'), first)).toContain('and several trials ran at once: compare them');
});
