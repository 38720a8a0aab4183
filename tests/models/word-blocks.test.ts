import {
  attach,
  evaluate,
  mergeAdapter,
  mergeAndUnload,
  train,
  type EvaluationData,
  type Executor,
  type Model,
  type TrainingData,
} from '@peftjs/core';
import { createRng, hostIntegers, type HostTensor } from '@peftjs/core/method';
import { relativeDistance, referenceExecutor } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { evaluationOutputs } from '@peftjs/core/runtime';
import { lora } from '@peftjs/lora';
import { causalEvaluation, encodeLanguage, languageSet } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { batchOf, load, tiny, type Network } from './tiny.js';

/** More than one block of words. */
const WORDS = 9000;

/** A small random decoder with a large vocabulary. */
function manyWords(network: Network, dtype: 'fp32' | 'q8'): Promise<Model> {
  const from = tiny(network);
  const width = from.config.hidden_size as number;
  const table = (seed: number) => {
    const rng = createRng(seed);
    return {
      dtype: 'F32',
      shape: [WORDS, width],
      data: Float32Array.from({ length: WORDS * width }, () => rng.normal()),
    } as const;
  };
  const weights = new Map([...from.weights, ['model.embed_tokens.weight', table(1)] as const]);
  const isTied = network === 'gemma2';
  const heads = new Map([...from.heads, ['next/lm_head.weight', table(isTied ? 1 : 2)] as const]);
  const config = { vocab_size: WORDS, tie_word_embeddings: isTied };
  return load({ ...from, weights, heads }, 'next', { dtype }, { config });
}

/** Three batches of other sizes, with labels in every block, padding, and tokens without a label. */
function data(): TrainingData {
  const rng = createRng(3);
  const batches = [0, 1, 2].map((further) => {
    const batch = batchOf(tiny('llama'), 1, { further });
    const { shape, data: ids } = batch.inputs.inputIds as HostTensor;
    const labels = Int32Array.from(ids, (_, at) => (at % 4 === 1 ? -100 : rng.integer(WORDS)));
    return { ...batch, labels: hostIntegers(labels, shape) };
  });
  return { kind: 'causal-lm', epoch: () => batches, batchesPerEpoch: batches.length };
}

async function texts(): Promise<EvaluationData> {
  const tokenizer = { tokenIds: (text: string) => Array.from(text, (_, at) => (at * 777) % WORDS), eosTokenId: 0 };
  const set = await languageSet('texts', [{ text: 'x'.repeat(40) }, { text: 'y'.repeat(13) }]);
  return causalEvaluation(encodeLanguage(set, tokenizer, { maxTokens: 16 }), { batchSize: 2 });
}

async function trained(
  model: Model,
  executor: Executor,
  targetModules = ['q_proj', 'down_proj'],
): Promise<Record<'losses' | 'values', number[]>> {
  const losses: number[] = [];
  const { last } = await train(attach(model, lora({ r: 2, targetModules })), data(), {
    epochs: 1,
    learningRate: 1e-2,
    executor,
    onStep: ({ loss }) => losses.push(loss),
  });
  return { losses, values: Object.values(last.values).flatMap((tensor) => [...tensor.data]) };
}

describe('the loss of a language model in blocks of words', () => {
  it.each([
    ['llama', 'fp32', 'a linear head'],
    ['gemma2', 'fp32', 'a tied head with a soft cap'],
    ['gemma2', 'q8', 'a tied head in 8 bits'],
  ] as const)('is that of the whole logits, and trains alike: %s %s, %s', async (network, dtype, _head) => {
    const model = await manyWords(network, dtype);
    const { split: _, ...whole } = model;
    for (const executor of [compiled({ threads: 1 }), await referenceExecutor()]) {
      const [blocked, plain] = [await trained(model, executor), await trained(whole, executor)];
      expect(relativeDistance(blocked.losses, plain.losses)).toBeLessThan(1e-6);
      expect(relativeDistance(blocked.values, plain.values)).toBeLessThan(1e-5);
      expect(blocked.values).not.toEqual(plain.values); // the two ways do differ in the last bits
    }
  });

  it('is computed whole where the head is adapted', async () => {
    const model = await manyWords('llama', 'fp32');
    const { split: _, ...whole } = model;
    const [executor, targets] = [compiled({ threads: 1 }), ['q_proj', 'lm_head']];
    expect(await trained(model, executor, targets)).toEqual(await trained(whole, executor, targets));
  });

  it.each(['embed_tokens', 'lm_head'])('gives the perplexity of a tied head apart from its table: %s', async (name) => {
    const peft = attach(await manyWords('gemma2', 'fp32'), lora({ targetModules: [name], initLoraWeights: false }));
    mergeAdapter(peft);
    const { split: _, ...whole } = mergeAndUnload(peft);
    const [executor, rows] = [compiled({ threads: 1 }), await texts()];
    const [blocked, plain] = [await evaluate(peft, rows, { executor }), await evaluate(whole, rows, { executor })];
    expect(relativeDistance([blocked.meanLogLikelihood ?? NaN], [plain.meanLogLikelihood ?? NaN])).toBeLessThan(1e-6);
  });

  it('gives the perplexity of the whole logits', async () => {
    const model = await manyWords('llama', 'fp32');
    const { split: _, ...whole } = model;
    const rows = await texts();
    for (const executor of [compiled({ threads: 1 }), await referenceExecutor()]) {
      const [blocked, plain] = [await evaluate(model, rows, { executor }), await evaluate(whole, rows, { executor })];
      expect(relativeDistance([blocked.meanLogLikelihood ?? NaN], [plain.meanLogLikelihood ?? NaN])).toBeLessThan(1e-6);
      const [outputs] = await evaluationOutputs(model, rows, { executor });
      expect(outputs).toHaveLength(2);
    }
  });
});
