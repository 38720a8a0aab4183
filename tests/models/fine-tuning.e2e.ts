import {
  attach,
  countParameters,
  evaluate,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  savePretrained,
  train,
} from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generate, generateText } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { causalEvaluation, encodeLanguage, languageSet, trainingData } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { characterDecoder, sonnet } from './characters.js';

const executor = compiled({ threads: 1 });

/** A small random decoder, before and after SoRA has taught it four lines of verse. */
async function taught(network: 'gpt2' | 'llama') {
  const storage = await characterDecoder(network, sonnet);
  const model = await fromPretrained('tiny', { storage, task: 'causal-lm' });
  const rows = encodeLanguage(await languageSet('sonnet', [{ text: sonnet }]), model.tokenizer, { maxTokens: 40 });
  const verse = causalEvaluation(rows, { batchSize: 8 });
  const peft = attach(model, sora({ r: 16, targetModules: 'all-linear', sparseLambda: 1 }), { seed: 1 });
  const before = await evaluate(model, verse, { executor });
  const losses: number[] = [];
  await train(peft, trainingData(rows, { batchSize: 8, seed: 1 }), {
    executor,
    epochs: 150,
    learningRate: 2e-2,
    onStep: ({ loss }) => losses.push(loss),
  });
  return { model, peft, verse, before, losses };
}

describe.each(['gpt2', 'llama'] as const)('SoRA teaches %s to write', (network) => {
  it(
    'with falling perplexity and fewer ranks, and it writes the same text pruned or merged',
    { timeout: 60_000 },
    async () => {
      const { model, peft, verse, before, losses } = await taught(network);
      const thirds = [0, 50, 100].map((from) => losses.slice(from, from + 50).reduce((sum, loss) => sum + loss));
      expect(thirds[1]).toBeLessThan((thirds[0] as number) / 2);
      expect(thirds[2]).toBeLessThan(thirds[1] as number);
      const after = await evaluate(peft, verse, { executor });
      expect(before.perplexity).toBeGreaterThan(100);
      expect(after.perplexity).toBeLessThan(2);

      const line = " compare thee to a summer's day?";
      const length = { maxNewTokens: line.length };
      expect(await generateText(model, 'Shall I', { executor, ...length })).not.toContain('compare');
      expect(await generateText(peft, 'Shall I', { executor, ...length })).toBe(line);

      const storage = memoryStorage();
      await savePretrained(peft, 'adapter', { storage });
      const pruned = await loadPretrained(model, 'adapter', { storage, methods: [lora] });
      const { stored, trainable } = countParameters(peft);
      expect(stored).toBeLessThan(0.8 * trainable);
      expect(countParameters(pruned).trainable).toBe(stored);
      expect((await evaluate(pruned, verse, { executor })).perplexity).toBeCloseTo(after.perplexity as number, 4);

      const prompts = ['Shall I', 'Thou', 'Rough winds do '].map((text) => model.tokenizer.tokenIds(text));
      const texts = await generate(peft, prompts, { executor });
      expect(await generate(pruned, prompts, { executor })).toEqual(texts);
      expect(await generate(mergeAndUnload(peft), prompts, { executor })).toEqual(texts);
      expect(await generate(peft, prompts, { executor: await eager({ backend: 'wasm' }) })).toEqual(texts);
    },
  );
});
