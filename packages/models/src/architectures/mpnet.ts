/**
 * MPNet (Song et al., 2020): the encoder of encoder.ts, with positions that start after the padding ID, attention
 * scores with a term for the distance of two tokens (the same in every layer), and the heads of RoBERTa. Module paths
 * are those of MPNetForSequenceClassification and MPNetForTokenClassification.
 *
 *   softmax(q_i k_j^T / sqrt(H / heads) + b[bucket(j - i)]) v     b: encoder.relative_attention_bias, one per head
 *
 * On either side, distances up to 7 have a bucket each, those from 8 to 127 share eight, and all longer ones share the
 * last (T5's buckets, Raffel et al., 2020).
 */
import type { Site } from '@peftjs/core/method';
import { embeddingSite } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs-core';
import { fileError } from '../json.js';
import type { RelativeBias } from '../encoder.js';
import { positiveInteger, positiveNumber } from '../transformers/config.js';
import { robertaHead } from './bert.js';
import { encoderType } from './encoder-settings.js';

/**
 * The number of buckets used on both sides together, whatever config.json says: a longer table has rows that are never
 * read.
 */
const BUCKETS = 32;
/** All distances from this one on share a bucket. */
const FARTHEST = 128;
/** The padding ID, whatever config.json says. */
const PADDING = 1;

const RELATIVE = 'mpnet.encoder.relative_attention_bias';

/**
 * MPNet as saved by transformers, including sentence-transformers models such as all-mpnet-base-v2. Missing settings
 * have the defaults of transformers.
 */
export const mpnetType = encoderType({
  name: 'mpnet',
  root: 'mpnet',
  savedBy: 'MPNetModel or MPNetForSequenceClassification',
  defaults: { vocabSize: 30_527 },
  keys: { headDropout: 'hidden_dropout_prob' },
  ofTexts: robertaHead,
  hasPooler: true,
  own(config, { names, numAttentionHeads, maxPositionEmbeddings }) {
    const rows = positiveInteger(config, 'relative_attention_num_buckets', BUCKETS);
    if (rows < BUCKETS) {
      throw fileError(config.file, `'relative_attention_num_buckets' must be at least ${BUCKETS}, got ${rows}`);
    }
    return {
      names: {
        ...names,
        query: 'attention.attn.q',
        key: 'attention.attn.k',
        value: 'attention.attn.v',
        output: 'attention.attn.o',
        outputNorm: 'attention.LayerNorm',
        dropouts: { attention: 'attention.attn.dropout', output: 'attention.dropout', outer: 'output.dropout' },
      },
      padTokenId: PADDING,
      layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-12),
      relativeBias: relativeBias(embeddingSite(RELATIVE, rows, numAttentionHeads), maxPositionEmbeddings),
      defaultTargetModules: ['q', 'v'],
    };
  },
});

/** @param most The length of the longest sequence, in tokens. */
function relativeBias(site: Site, most: number): RelativeBias {
  return {
    site: { ...site, readsShared: true },
    scores(scope, tokens) {
      const all = Int32Array.from({ length: 2 * most - 1 }, (_, at) => relativeBucket(at - (most - 1)));
      const buckets = tf.slice(tf.tensor1d(all, 'int32'), [most - tokens], [2 * tokens - 1]); // of 1 - S, .., S - 1
      const rows = scope.embedding(RELATIVE, buckets); // [2 S - 1, heads]
      const positions = tf.range(0, tokens, 1, 'int32'); // [S]
      const distances = tf.add(tf.sub(positions, tf.expandDims(positions, 1)), tokens - 1); // [S, S], at least 0
      const scores = tf.gather(rows, tf.cast(distances, 'int32')); // [S, S, heads]
      return tf.expandDims(tf.transpose(scores, [2, 0, 1]), 0);
    },
  };
}

/**
 * Returns the bucket of a distance j - i. Computed in float32 as in transformers: at a bucket's edge the last digit
 * decides.
 */
export function relativeBucket(distance: number): number {
  const ofSide = BUCKETS / 2;
  const exact = ofSide / 2;
  const size = Math.abs(distance);
  const side = distance > 0 ? ofSide : 0;
  if (size < exact) return side + size;
  const log = Math.fround(Math.log(size / exact));
  const share = Math.fround(Math.fround(log / Math.fround(Math.log(FARTHEST / exact))) * (ofSide - exact));
  return side + Math.min(exact + Math.trunc(share), ofSide - 1);
}
