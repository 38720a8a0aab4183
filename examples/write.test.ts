import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { characterDecoder, sonnet } from '../tests/models/characters.js';
import { temporaryFolder } from '../tools/vitest/temporary-folder.js';
import { teachToWrite } from './write.js';

const folder = temporaryFolder();

it('teaches a small random Llama the beginning of a sonnet', { timeout: 60_000 }, async () => {
  const decoder = await characterDecoder('llama', sonnet);
  for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
    await writeFile(join(folder, file), await decoder.read(`tiny/${file}`));
  }
  const lessons = { texts: [sonnet], epochs: 150, learningRate: 2e-2 };
  const { before, after, parameters, text } = await teachToWrite(folder, lessons, 'Shall I', join(folder, 'adapter'));
  expect(before.perplexity).toBeGreaterThan(100);
  expect(after.perplexity).toBeLessThan(2);
  expect(parameters.stored).toBeLessThan(16_000); // of 19,680 for 16 ranks in each module
  expect(text).toBe(" compare thee to a summer's day?");
});
