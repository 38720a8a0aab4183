import * as tf from '@tensorflow/tfjs-core';
import { attach, evaluate, hostTensor, train, type Model } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import { embeddingSite, linearSite } from '@peftjs/core/model';
import { referenceExecutor } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { causalEvaluation, encodeLanguage, languageSet, trainingData, type CausalTokenizer } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';

const WORDS = 12;
const HIDDEN = 16;
const executor = await referenceExecutor();

/** A model that predicts a token only from the one before it. */
function bigrams(): Model {
  const rng = createRng(5);
  const sites = [
    embeddingSite('words', WORDS, HIDDEN),
    linearSite('mix', HIDDEN, HIDDEN),
    linearSite('lm_head', HIDDEN, WORDS),
  ];
  const weights = sites.flatMap(({ path, inFeatures, outFeatures, hasBias }) => {
    const drawn = Float32Array.from({ length: inFeatures * outFeatures }, () => rng.normal() / Math.sqrt(HIDDEN));
    const weight = [`${path}.weight`, hostTensor(drawn, [inFeatures, outFeatures])] as const;
    return hasBias
      ? [weight, [`${path}.bias`, hostTensor(new Float32Array(outFeatures), [outFeatures])] as const]
      : [weight];
  });
  return {
    name: 'bigrams',
    fingerprint: 'bigrams-5',
    sites,
    weights: Object.fromEntries(weights),
    head: [],
    defaultTargetModules: ['mix', 'lm_head'],
    lookups: [{ site: 'words', ids: 'inputIds' }],
    task: 'causal-lm',
    forward(scope, { inputIds }) {
      const hidden = scope.embedding('words', inputIds as tf.Tensor); // [batch, tokens, hidden]
      return scope.linear('lm_head', tf.relu(scope.linear('mix', hidden))); // [batch, tokens, words]
    },
  };
}

/** a is 1, b is 2, and so on; 0 ends a text. */
const letters: CausalTokenizer = { tokenIds: (text) => Array.from(text, (c) => c.charCodeAt(0) - 96), eosTokenId: 0 };
const encode = async (rows: Parameters<typeof languageSet>[1], maxTokens: number) =>
  encodeLanguage(await languageSet('letters', rows), letters, { maxTokens });

describe('a causal language model', () => {
  it('learns a text, and the evaluation shows it', async () => {
    const data = await encode([{ text: 'abcdefgh'.repeat(20) }, { text: 'abcdefgh'.repeat(5) }], 16);
    const judged = causalEvaluation(data, { batchSize: 4 });
    const peft = attach(bigrams(), lora({ r: 8, loraAlpha: 16 }), { seed: 1 });
    const before = await evaluate(peft, judged, { executor });
    expect(before['perplexity']).toBeGreaterThan(WORDS / 2);
    await train(peft, trainingData(data, { batchSize: 4, seed: 1 }), {
      executor,
      epochs: 20,
      learningRate: 0.02,
      selection: { data: judged },
    });
    const after = await evaluate(peft, judged, { executor });
    expect(after['perplexity']).toBeLessThan(1.2);
    expect(after['meanLogLikelihood']).toBeCloseTo(-Math.log(after['perplexity'] ?? NaN), 5);
  });

  it.each([
    ['texts', [{ text: 'abcab' }, { text: 'hgfedcba' }]],
    ['instructions', [{ prompt: 'abcdefghij', completion: 'kj' }, { prompt: 'a', completion: 'bcd' }]], // oxfmt-ignore
  ])('is trained on the loss that it is evaluated by: %s', async (_, rows) => {
    const data = await encode(rows, 14);
    const batchSize = data.rows.length;
    const peft = attach(bigrams(), lora({ r: 2 }), { seed: 1 });
    const judged = await evaluate(peft, causalEvaluation(data, { batchSize }), { executor });
    const losses: number[] = [];
    await train(peft, trainingData(data, { batchSize, seed: 1 }), {
      executor,
      epochs: 1,
      learningRate: 1e-3,
      onStep: ({ loss }) => losses.push(loss),
    });
    expect(losses).toHaveLength(1);
    expect(losses[0]).toBeCloseTo(-(judged['meanLogLikelihood'] ?? NaN), 5);
  });

  it('learns nothing from prompts', async () => {
    const prompts = ['abcdef', 'fedcba', 'acebdf'];
    const data = await encode(prompts.map((prompt) => ({ prompt, completion: 'kkkk' })), 16); // oxfmt-ignore
    const peft = attach(bigrams(), lora({ r: 8, loraAlpha: 16 }), { seed: 1 });
    await train(peft, trainingData(data, { batchSize: 3, seed: 1 }), {
      executor,
      epochs: 60,
      learningRate: 0.02,
    });
    const answers = await evaluate(peft, causalEvaluation(data, { batchSize: 3 }), { executor });
    const whole = await encode(prompts.map((text) => ({ text })), 7); // oxfmt-ignore
    const asText = await evaluate(peft, causalEvaluation(whole, { batchSize: 3 }), { executor });
    expect(answers['perplexity']).toBeLessThan(2);
    expect(asText['perplexity']).toBeGreaterThan(WORDS / 2);
  });
});
