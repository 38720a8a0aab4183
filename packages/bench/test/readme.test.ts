import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readResults, renderMarkdown, summarise } from '@peftjs/bench';
import { expect, it, onTestFinished, vi } from 'vitest';
import { writeResult } from '@peftjs/cli/results';
import { syntheticResults } from '../../cli/test/synthetic-results.js';

it('reports on results as the README shows', async () => {
  const [before, folder] = [process.cwd(), await mkdtemp(join(tmpdir(), 'peft-bench-readme-'))];
  process.chdir(folder);
  onTestFinished(async () => {
    process.chdir(before);
    await rm(folder, { recursive: true });
  });
  for (const result of syntheticResults()) await writeResult('results', result);
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  onTestFinished(() => {
    log.mockRestore();
  });
  // #region report
  const results = await readResults('results'); // the folder after --out
  console.log(renderMarkdown(results, summarise(results, { reference: 'lora' })));
  // #endregion report
  expect(log).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(/\| lora/));
});
