import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { assertOneOf, keptShare, parseOptions, positive, type OptionsOf } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Batch, DataKind } from '../contracts/model.js';
import { oneHot } from '../nn/cross-entropy.js';
import { cosineSimilarity, multipleNegativesRanking } from './embeddings.js';
import { MIN_SUM, weightedMean, type Loss, type LossBatch } from './loss.js';
import { dpo } from './preferences.js';
import { meanOverTokens, next, surpriseOf, tokenWeights, type Surprise } from './surprise.js';

const crossEntropyEntries = {
  /**
   * e: the share of the target that is spread evenly over all classes (Szegedy et al., 2016, arXiv 1512.00567, section
   * 7). From 0 to below 1. Default 0.
   */
  labelSmoothing: v.optional(keptShare, 0),
  /** w: the weight of each class, in the order of the classes, e.g. to compensate for rare classes. Default 1 each. */
  classWeights: v.optional(v.array(positive)),
};

/** Options of `crossEntropy`. */
export type CrossEntropyOptions = OptionsOf<typeof crossEntropyEntries>;

/**
 * Cross-entropy of logits `[batch, classes]` and class numbers y `[batch]`, as in torch:
 *
 *   sum_i [(1 - e) w_y L_y + e / K sum_k w_k L_k] / sum_i w_y     L_k = -log softmax(logits)[k], rows i by weight
 *
 * @throws ConfigError for options out of their range.
 */
export function crossEntropy(options: CrossEntropyOptions = {}): Loss {
  const { labelSmoothing, classWeights } = parseOptions('crossEntropy', crossEntropyEntries, options);
  return {
    name: 'cross-entropy',
    ...((labelSmoothing > 0 || classWeights) && {
      settings: { labelSmoothing, ...(classWeights && { classWeights }) },
    }),
    labels: 'classification',
    loss(logits, { labels, rowWeights }) {
      const classes = logits.shape[1] as number;
      assertOneEach('classWeights', classes, classWeights);
      const chosen = oneHot(labels, classes); // [batch, classes]
      const smooth = (target: Tensor): Tensor => tf.add(tf.mul(target, 1 - labelSmoothing), labelSmoothing / classes);
      const weighted = (target: Tensor): Tensor =>
        classWeights ? tf.mul(target, tf.tensor1d([...classWeights])) : target;
      const target = weighted(labelSmoothing > 0 ? smooth(chosen) : chosen);
      const surprise = tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), target), -1)); // [batch]
      if (!classWeights) return weightedMean(surprise, rowWeights);
      const counted = tf.mul(tf.sum(weighted(chosen), -1), rowWeights); // [batch]
      return tf.div(tf.sum(tf.mul(surprise, rowWeights)), tf.maximum(tf.sum(counted), MIN_SUM));
    },
    ...(classWeights && {
      weight: ({ labels, rowWeights }) =>
        [...rowWeights.data].reduce(
          (sum, weight, row) => sum + weight * (classWeights[labels.data[row] as number] ?? 0),
          0,
        ),
    }),
  };
}

function assertOneEach(option: string, classes: number, weights: readonly number[] | undefined): void {
  if (weights === undefined || weights.length === classes) return;
  throw new ConfigError(`${option} must have one number for each of ${classes} classes, got ${weights.length}`, option);
}

const binaryCrossEntropyEntries = {
  /**
   * w: the weight of each label's presence, in the order of the labels; below 1 favours precision, above 1 recall.
   * Default 1 each.
   */
  positiveWeights: v.optional(v.array(positive)),
};

/** Options of `binaryCrossEntropy`. */
export type BinaryCrossEntropyOptions = OptionsOf<typeof binaryCrossEntropyEntries>;

/**
 * Binary cross-entropy of logits z `[batch, labels]` and labels y of 0 or 1 `[batch, labels]`, averaged over labels and
 * over rows by weight, as torch's `BCEWithLogitsLoss`: -[w y log s(z) + (1 - y) log(1 - s(z))], s the sigmoid.
 * @throws ConfigError for weights that are not above 0.
 */
export function binaryCrossEntropy(options: BinaryCrossEntropyOptions = {}): Loss {
  const { positiveWeights } = parseOptions('binaryCrossEntropy', binaryCrossEntropyEntries, options);
  return {
    name: 'binary-cross-entropy',
    labels: 'multi-label',
    ...(positiveWeights && { settings: { positiveWeights } }),
    loss(logits, { labels, rowWeights }) {
      assertOneEach('positiveWeights', logits.shape[1] as number, positiveWeights);
      const weights = positiveWeights ? tf.tensor1d([...positiveWeights]) : tf.scalar(1);
      const present = tf.mul(tf.mul(labels, weights), tf.softplus(tf.neg(logits))); // -log s(z) = softplus(-z)
      const absent = tf.mul(tf.sub(1, labels), tf.softplus(logits));
      return weightedMean(tf.mean(tf.add(present, absent), -1), rowWeights);
    },
  };
}

/** (output - target)^2 of outputs `[batch, 1]` and targets `[batch]`, averaged over rows by weight. */
export function squaredError(): Loss {
  return {
    name: 'squared-error',
    labels: 'regression',
    loss: (outputs, { labels, rowWeights }) =>
      weightedMean(tf.squaredDifference(tf.reshape(outputs, labels.shape), labels), rowWeights),
  };
}

/**
 * -log softmax(logits)[label] of logits `[batch, tokens, classes]` and class numbers `[batch, tokens]`, averaged over
 * tokens by row weight. Padding and labels below 0 do not count (transformers writes -100 for tokens without a label).
 */
export function tokenCrossEntropy(): Loss {
  return {
    name: 'token-cross-entropy',
    labels: 'token-classification',
    loss: (logits, batch) => meanOverTokens(surpriseOf(logits), batch.labels, tokenWeights(batch)),
    weight: (batch) => labelledTokens(batch, 0),
  };
}

/**
 * The same loss for a causal language model, whose labels are its input tokens (or -100): the logits of each token are
 * compared with the label of the next one. Labels are shifted only here.
 */
export function nextToken(): Loss {
  const ofSurprise = (surprise: Surprise, batch: LossBatch): Scalar =>
    meanOverTokens(surprise, next(batch.labels, -100), next(tokenWeights(batch), 0));
  return {
    name: 'next-token',
    labels: 'causal-lm',
    loss: (logits, batch) => ofSurprise(surpriseOf(logits), batch),
    ofSurprise,
    weight: (batch) => labelledTokens(batch, 1), // a row's first token is not predicted
  };
}

const losses: Readonly<Record<DataKind, () => Loss>> = {
  classification: crossEntropy,
  'multi-label': binaryCrossEntropy,
  regression: squaredError,
  'token-classification': tokenCrossEntropy,
  'causal-lm': nextToken,
  preferences: dpo,
  pairs: multipleNegativesRanking,
  triplets: multipleNegativesRanking,
  'scored-pairs': cosineSimilarity,
};

/** Returns the default loss for a kind of data. @throws ConfigError for an unknown kind, with the nearest one. */
export function defaultLoss(kind: DataKind): Loss {
  assertOneOf('kind', kind, Object.keys(losses));
  return losses[kind]();
}

/** Returns the sum of the weights of labelled tokens, starting at token `first` of each row. */
function labelledTokens({ labels, rowWeights, inputs }: Batch, first: number): number {
  const [rows = 0, tokens = 0] = labels.shape;
  let sum = 0;
  for (let place = 0; place < rows * tokens; place++) {
    const isLabelled = place % tokens >= first && (labels.data[place] as number) >= 0;
    const weight = rowWeights.data[Math.floor(place / tokens)] as number;
    if (isLabelled) sum += weight * (inputs.attentionMask?.data[place] ?? 1);
  }
  return sum;
}
