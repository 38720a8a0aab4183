import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { evaluate, hostTensor, type EvaluationData, type Model } from '@peftjs/core';
import { embeddingSite, linearSite } from '@peftjs/core/model';
import { referenceExecutor } from '@peftjs/conformance';
import { causalEvaluation, encodeLanguage, languageSet } from '@peftjs/tasks';
import type * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';

const WORDS = 5000;
const TOKENS = 32;
const ROWS = 96;
/** The bytes of the logits of all rows: 61 MB. */
const LOGITS_BYTES = 4 * WORDS * TOKENS * ROWS;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const executor = await referenceExecutor();

/** A model with a large vocabulary, all words equally likely. */
function manyWords(): Model {
  const sites = [embeddingSite('words', WORDS, 2), linearSite('lm_head', 2, WORDS)];
  return {
    name: 'many-words',
    fingerprint: 'many-words',
    sites,
    weights: {
      'words.weight': hostTensor(new Float32Array(WORDS * 2), [WORDS, 2]),
      'lm_head.weight': hostTensor(new Float32Array(2 * WORDS), [2, WORDS]),
      'lm_head.bias': hostTensor(new Float32Array(WORDS), [WORDS]),
    },
    head: [],
    defaultTargetModules: ['lm_head'],
    lookups: [{ site: 'words', ids: 'inputIds' }],
    task: 'causal-lm',
    forward: (scope, { inputIds }) => scope.linear('lm_head', scope.embedding('words', inputIds as tf.Tensor)),
  };
}

async function evaluation(): Promise<EvaluationData> {
  const tokenizer = { tokenIds: (text: string) => Array.from(text, (_, at) => (at * 7) % WORDS), eosTokenId: 0 };
  const set = await languageSet('long', [{ text: 'x'.repeat(TOKENS * ROWS - 1) }]);
  return causalEvaluation(encodeLanguage(set, tokenizer, { maxTokens: TOKENS }), { batchSize: 4 });
}

/** Bytes in array buffers. Collected buffers are freed on another thread, and only the next collection waits for it. */
function arrayBufferBytes(): number {
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

/** Additional bytes in array buffers at the time when the rows are scored. */
async function heldAtScore(data: EvaluationData): Promise<{ held: number; metrics: Record<string, number> }> {
  let held = NaN;
  const before = arrayBufferBytes();
  const metrics = await evaluate(
    manyWords(),
    {
      ...data,
      score(outputs) {
        held = arrayBufferBytes() - before;
        return data.score(outputs);
      },
    },
    { executor },
  );
  return { held, metrics };
}

describe('the evaluation of a language model', () => {
  it('keeps two numbers per row, not its logits', async () => {
    const { batches, primaryMetric, score, ...summarised } = await evaluation();
    const whole = await heldAtScore({ batches, primaryMetric, score });
    const reduced = await heldAtScore({ batches, primaryMetric, score, ...summarised });
    expect(whole.held).toBeGreaterThan(0.9 * LOGITS_BYTES); // the measurement would notice
    expect(reduced.held).toBeLessThan(0.1 * LOGITS_BYTES);
    expect(reduced.metrics['perplexity']).toBeCloseTo(WORDS, 0);
    expect(reduced.metrics['perplexity']).toBeCloseTo(whole.metrics['perplexity'] ?? NaN, 1);
  });
});
