import { expect, it } from 'vitest';
import { sizing, syntheticTrial } from '../../../cli/test/synthetic-results.js';
import { renderMarkdown } from './files.js';
import { renderReport } from './page.js';
import { summarise } from './statistics/summary.js';

it('a report shows the stages and the reason', async () => {
  const trial = { ...syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 }), sizing };
  const summary = summarise([trial], { reference: 'sora' });
  const page = await renderReport([trial], summary);
  expect(page).toContain('The chosen stage is ringed.');
  expect(page).toContain('<bdi>Seed 1: With 1,600 parameters &lt;b&gt;it&lt;/b&gt; is enough.</bdi>');
  expect(renderMarkdown([trial], summary)).toMatch(/Seed 1: With 1,600 .*\n\n\| stage \| stored /);
});
