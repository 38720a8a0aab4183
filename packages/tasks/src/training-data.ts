import { createRng, type TrainingData } from '@peftjs/core';
import { assembleBatch, type BatchOptions } from './batch.js';
import { checkBuckets, checkPositive, chooseBuckets, planBatches, type BatchPlan } from './buckets.js';
import type { EncodedData } from './encode.js';
import type { CausalData } from './language/causal-data.js';

/** How training rows become batches. */
export interface TrainingOptions extends BatchOptions {
  readonly seed: number;
}

/**
 * Batches to train on: every row once an epoch, in an order that only the data, the options and the epoch decide.
 * @throws ConfigError for an impossible option.
 */
export function trainingData(data: EncodedData | CausalData, options: TrainingOptions): TrainingData {
  const { batchSize, seed } = options;
  checkPositive('batchSize', batchSize);
  const buckets = options.buckets ?? chooseBuckets([data], { batchSize });
  checkBuckets(data, buckets);
  return {
    kind: data.kind,
    batchesPerEpoch: Math.ceil(data.rows.length / batchSize),
    epoch(index) {
      const rng = createRng(seed).fork(`epoch ${index}`);
      const plans = planBatches(data, rng.permutation(data.rows.length), { batchSize, buckets });
      const order = Array.from(rng.permutation(plans.length), (plan) => plans[plan] as BatchPlan);
      return order.map((plan) => assembleBatch(data, plan, options));
    },
  };
}
