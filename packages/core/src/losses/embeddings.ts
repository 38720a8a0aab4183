import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parseOptions, positive } from '../config.js';
import { oneHot } from '../nn/cross-entropy.js';
import { l2Normalize } from '../nn/norms.js';
import { weightedMean, type Loss, type LossBatch } from './loss.js';

/*
 * Losses of embeddings. A row of the data holds several texts, its columns: an anchor, its positive and any number of
 * negatives. The model reads the texts of all rows column after column, so its outputs are
 *
 *   [columns * rows, width] = [first texts of all rows; second texts; ..]
 *
 * The values are those of sentence-transformers' losses of the same names.
 */

/** Options of `multipleNegativesRanking`. */
export interface MultipleNegativesRankingOptions {
  /** The factor of the cosines, 1 / temperature. Above 0. Default 20. */
  readonly scale?: number;
}

/** Options of `triplet` and `contrastive`. */
export interface MarginOptions {
  /** The distance, above 0, by which texts that do not belong together must be further apart. Default: see the loss. */
  readonly margin?: number;
}

/** Splits the outputs into the embeddings of each column, `[rows, width]`. */
function columnsOf(outputs: Tensor, { rowWeights }: LossBatch): Tensor[] {
  const rows = rowWeights.shape[0];
  return tf.split(outputs, outputs.shape[0] / rows, 0);
}

/** Returns cos(x, y) for the rows of two matrices, `[rows]`. */
export function cosines(x: Tensor, y: Tensor): Tensor {
  return tf.sum(tf.mul(l2Normalize(x), l2Normalize(y)), -1);
}

/**
 * Returns ||x - y + 1e-6|| for the rows of two matrices, `[rows]`: torch's pairwise distance, which has a gradient at x
 * = y.
 */
function distances(x: Tensor, y: Tensor): Tensor {
  return tf.sqrt(tf.sum(tf.square(tf.add(tf.sub(x, y), 1e-6)), -1));
}

/** A logit that excludes an entry from a softmax. */
const MASKED = -1e9;

/**
 * Multiple negatives ranking (Henderson et al., 2017, arXiv 1705.00652, eq. 4). Rows are (anchor, positive) or (anchor,
 * positive, negative ..). It is the cross-entropy of scale * cos(anchor, candidate): each anchor must find its positive
 * among the positives and negatives of all rows of the batch. Labels are not read.
 */
export function multipleNegativesRanking(options: MultipleNegativesRankingOptions = {}): Loss {
  const { scale } = parseOptions('multipleNegativesRanking', { scale: v.optional(positive, 20) }, options);
  return {
    name: 'multiple-negatives-ranking',
    labels: ['pairs', 'triplets'],
    settings: { scale },
    loss(outputs, batch) {
      const [anchors, ...candidates] = columnsOf(outputs, batch) as [Tensor, ...Tensor[]];
      const rows = anchors.shape[0];
      const scores = tf.mul(tf.matMul(l2Normalize(anchors), l2Normalize(tf.concat(candidates)), false, true), scale);
      const isText = tf.tile(batch.rowWeights, [candidates.length]); // [candidates]
      const offered = tf.where(tf.greater(isText, 0), scores, tf.fill(scores.shape, MASKED)); // [rows, candidates]
      const own = oneHot(tf.range(0, rows, 1, 'int32'), rows * candidates.length); // [rows, candidates]
      const surprise = tf.neg(tf.sum(tf.mul(tf.logSoftmax(offered), own), -1)); // [rows]
      return weightedMean(surprise, batch.rowWeights);
    },
  };
}

/** (cos(first, second) - label)^2 of pairs with a score, averaged over rows by weight. */
export function cosineSimilarity(): Loss {
  return {
    name: 'cosine-similarity',
    labels: 'scored-pairs',
    loss(outputs, batch) {
      const [first, second] = columnsOf(outputs, batch) as [Tensor, Tensor];
      return weightedMean(tf.squaredDifference(cosines(first, second), batch.labels), batch.rowWeights);
    },
  };
}

/**
 * max(||anchor - positive|| - ||anchor - negative|| + margin, 0) of triplets, averaged over rows by weight (Schroff et
 * al., 2015, arXiv 1503.03832, without the squares). A row has one negative. Labels are not read. The margin is 5 by
 * default.
 */
export function triplet(options: MarginOptions = {}): Loss {
  const { margin } = parseOptions('triplet', { margin: v.optional(positive, 5) }, options);
  return {
    name: 'triplet',
    labels: 'triplets',
    columns: 3,
    settings: { margin },
    loss(outputs, batch) {
      const [anchor, positive, negative] = columnsOf(outputs, batch) as [Tensor, Tensor, Tensor];
      const excess = tf.add(tf.sub(distances(anchor, positive), distances(anchor, negative)), margin); // [rows]
      return weightedMean(tf.relu(excess), batch.rowWeights);
    },
  };
}

/**
 * Contrastive loss (Hadsell et al., 2006, eq. 4) with the distance d = 1 - cos: d^2 / 2 for pairs labelled 1,
 * max(margin - d, 0)^2 / 2 for pairs labelled 0, averaged over rows by weight. The margin is 0.5 by default.
 */
export function contrastive(options: MarginOptions = {}): Loss {
  const { margin } = parseOptions('contrastive', { margin: v.optional(positive, 0.5) }, options);
  return {
    name: 'contrastive',
    labels: 'scored-pairs',
    settings: { margin },
    loss(outputs, batch): Scalar {
      const [first, second] = columnsOf(outputs, batch) as [Tensor, Tensor];
      const distance = tf.sub(1, cosines(first, second)); // [rows]
      const near = tf.mul(batch.labels, tf.square(distance));
      const far = tf.mul(tf.sub(1, batch.labels), tf.square(tf.relu(tf.sub(margin, distance))));
      return weightedMean(tf.mul(tf.add(near, far), 0.5), batch.rowWeights);
    },
  };
}
