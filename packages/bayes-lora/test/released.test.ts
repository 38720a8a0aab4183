import { readFileSync } from 'node:fs';
import { transposed } from '@peftjs/core/linalg';
import { contextOf, hostMatrix, hostVector, layerOf, referenceBackend, relativeDistance } from '@peftjs/conformance';
import { bayesLora } from '@peftjs/bayes-lora';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { rankLogAlpha } from '../src/policy.js';

type Matrix = readonly (readonly number[])[];

/** Values of the released code: tools/golden/rivals.py. Its A is [r, in], its B [out, r]. */
const { divergence, modules } = JSON.parse(
  readFileSync(new URL('fixtures/released.json', import.meta.url), 'utf8'),
) as {
  readonly divergence: Readonly<Record<'mu' | 'logSigma2' | 'kl', readonly number[]>>;
  readonly modules: readonly { A: Matrix; B: Matrix; logSigma2: readonly number[]; logAlpha: readonly number[] }[];
};

it('the divergence of an entry equals that of the released code', async () => {
  await referenceBackend();
  const layer = layerOf(bayesLora, { r: 1, klScale: 0.5 }, [1, 1]);
  divergence.mu.forEach((mu, index) => {
    const entry = tf.fill([1, 1], mu);
    const logSigma2 = tf.fill([1], divergence.logSigma2[index] ?? NaN);
    // A and B have one entry each, which count alike.
    const kl = layer.loss?.({ loraA: entry, loraB: entry, logSigma2 }, contextOf()).dataSync()[0] ?? NaN;
    const expected = divergence.kl[index] ?? NaN;
    expect(Math.abs(kl - expected), `mu ${mu}`).toBeLessThan(2e-6 * Math.max(1, expected));
  });
});

describe('log alpha of ranks', () => {
  it.each(modules.map((module) => [module.A[0]?.length, module.B.length, module] as const))(
    'equals that of the released code in a module of %i inputs and %i outputs',
    (_inputs, _outputs, { A, B, logSigma2, logAlpha }) => {
      const values = {
        loraA: transposed(hostMatrix(A)), // [r, in] -> [in, r]
        loraB: transposed(hostMatrix(B)), // [out, r] -> [r, out]
        logSigma2: hostVector(logSigma2),
      };
      expect(relativeDistance(rankLogAlpha(values), logAlpha)).toBeLessThan(1e-6);
    },
  );
});
