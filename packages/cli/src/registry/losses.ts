import * as core from '@peftjs/core';
import type { Loss } from '@peftjs/core/runtime';

const losses = {
  'cross-entropy': core.crossEntropy,
  'binary-cross-entropy': core.binaryCrossEntropy,
  'squared-error': core.squaredError,
  'token-cross-entropy': core.tokenCrossEntropy,
  'next-token': core.nextToken,
  dpo: core.dpo,
  orpo: core.orpo,
  'multiple-negatives-ranking': core.multipleNegativesRanking,
  'cosine-similarity': core.cosineSimilarity,
  triplet: core.triplet,
  contrastive: core.contrastive,
} satisfies Readonly<Record<string, () => Loss>>;

/** The name of a loss on the command line and in a study. */
export type LossName = keyof typeof losses;

/** The names of all losses. */
export const lossNames = Object.keys(losses) as LossName[];

/** Returns a loss with its default settings. */
export function lossNamed(name: LossName): Loss {
  return losses[name]();
}
