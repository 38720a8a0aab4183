import {
  binaryCrossEntropy,
  contrastive,
  cosineSimilarity,
  crossEntropy,
  dpo,
  multipleNegativesRanking,
  nextToken,
  orpo,
  squaredError,
  tokenCrossEntropy,
  triplet,
} from '@peftjs/core/losses';
import type { Loss } from '@peftjs/core/runtime';

const losses = {
  'cross-entropy': crossEntropy,
  'binary-cross-entropy': binaryCrossEntropy,
  'squared-error': squaredError,
  'token-cross-entropy': tokenCrossEntropy,
  'next-token': nextToken,
  dpo,
  orpo,
  'multiple-negatives-ranking': multipleNegativesRanking,
  'cosine-similarity': cosineSimilarity,
  triplet,
  contrastive,
} satisfies Readonly<Record<string, () => Loss>>;

/** The name of a loss on the command line and in a study. */
export type LossName = keyof typeof losses;

/** The names of all losses. */
export const lossNames = Object.keys(losses) as LossName[];

/** Returns a loss with its default settings. */
export function lossNamed(name: LossName): Loss {
  return losses[name]();
}
