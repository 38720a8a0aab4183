import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parseOptions, positive, type OptionsOf } from '../config.js';
import { ConfigError } from '../errors.js';
import { tensorAt } from '../tensors.js';
import { weightedMean, type Loss, type LossBatch } from './loss.js';
import { meanOverTokens, next, surpriseOf, surpriseOfRows, tokenWeights, type Surprise } from './surprise.js';

/*
 * Losses of preferences. A row of the data is a prompt with two answers, of which one is preferred. The model reads the
 * chosen answers of all rows before the rejected ones, each after its prompt:
 *
 *   inputs and labels [2 * batch, tokens] = [chosen answers of all rows; rejected answers]
 *
 * Labels are -100 for the prompt and for padding. The values are those of TRL's losses of the same names.
 */

/** The name of the input with what the frozen model gives the answers, `[batch, 2]`: log p(chosen), log p(rejected). */
export const REFERENCE_LOGPS = 'referenceLogps';

/** The answers of a batch, `[batch]` each. */
interface Answers {
  /** log p of each answer given its prompt, the sum over its tokens. */
  readonly logps: Pair;
  /** The number of its tokens, at least 1. */
  readonly tokens: Pair;
}

/** A value of the chosen and of the rejected answers. */
type Pair = Readonly<Record<'chosen' | 'rejected', Tensor>>;

function answersOf(surprise: Surprise, labels: Tensor): Answers {
  const [sums, counts] = tf.unstack(surpriseOfRows(surprise, labels), 1) as [Tensor, Tensor]; // [2 * batch] each
  return { logps: pairOf(tf.neg(sums)), tokens: pairOf(tf.maximum(counts, 1)) };
}

/** Splits a tensor along its first axis: [2 * batch, ..] */
function pairOf(x: Tensor): Pair {
  const [chosen, rejected] = tf.split(x, 2, 0) as [Tensor, Tensor];
  return { chosen, rejected };
}

function both(op: (x: Tensor, y: Tensor) => Tensor, x: Pair, y: Pair): Pair {
  return { chosen: op(x.chosen, y.chosen), rejected: op(x.rejected, y.rejected) };
}

/** -log sigmoid(x). */
function softly(x: Tensor): Tensor {
  return tf.softplus(tf.neg(x));
}

const gap = ({ chosen, rejected }: Pair): Tensor => tf.sub(chosen, rejected);

/** What the loss of a row depends on. */
interface Ratios {
  /** log p / p_reference of both answers, `[batch]`. */
  readonly ratios: Pair;
  /** The same per token of the answer. */
  readonly perToken: Pair;
  readonly beta: number;
  readonly labelSmoothing: number;
}

/** The loss of each row by `DpoOptions.lossType`, `[batch]`. */
const lossTypes = {
  sigmoid: ({ ratios, beta }: Ratios) => softly(tf.mul(gap(ratios), beta)),
  hinge: ({ ratios, beta }: Ratios) => tf.relu(tf.sub(1, tf.mul(gap(ratios), beta))),
  ipo: ({ perToken, beta }: Ratios) => tf.square(tf.sub(gap(perToken), 1 / (2 * beta))),
  robust({ ratios, beta, labelSmoothing: e }: Ratios) {
    const x = tf.mul(gap(ratios), beta);
    return tf.div(tf.sub(tf.mul(softly(x), 1 - e), tf.mul(softly(tf.neg(x)), e)), 1 - 2 * e);
  },
  sigmoid_norm: ({ perToken, beta }: Ratios) => softly(tf.mul(gap(perToken), beta)),
  apo_zero: ({ ratios, beta }: Ratios) =>
    tf.add(tf.sigmoid(tf.mul(ratios.chosen, -beta)), tf.sigmoid(tf.mul(ratios.rejected, beta))),
  apo_down: ({ ratios, beta }: Ratios) =>
    tf.add(tf.sigmoid(tf.mul(ratios.chosen, beta)), tf.sigmoid(tf.mul(gap(ratios), -beta))),
} as const;

const dpoEntries = {
  /** How strongly the model is held to the reference; for `ipo` tau in the paper. Above 0. Default 0.1. */
  beta: v.optional(positive, 0.1),
  /**
   * The loss of a row, by TRL's names. With h the difference of log p / p_reference between the chosen and the rejected
   * answer, and h' the same per token of each answer:
   * - `sigmoid`: -log sigmoid(beta h) (Rafailov et al., 2023, arXiv 2305.18290, eq. 7). The default
   * - `hinge`: max(0, 1 - beta h) (SLiC; Zhao et al., 2023, arXiv 2305.10425)
   * - `ipo`: (h' - 1 / (2 beta))^2 (Azar et al., 2023, arXiv 2310.12036, eq. 17)
   * - `robust`: `sigmoid` corrected for a share of wrong labels (Chowdhury et al., 2024, arXiv 2403.00409)
   * - `sigmoid_norm`: -log sigmoid(beta h'), which does not favour short or long answers
   * - `apo_zero`, `apo_down`: raise the chosen answer and lower the rejected one, or lower both (D'Oosterlinck et al.,
   *   2024, arXiv 2408.06266, eq. 7 and 8)
   */
  lossType: v.optional(v.picklist(Object.keys(lossTypes) as (keyof typeof lossTypes)[]), 'sigmoid'),
  /** The share of wrong labels that `robust` expects, from 0 to below 0.5. Default 0. */
  labelSmoothing: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(0.5)), 0),
};

/** Options of `dpo`, with TRL's names and defaults. */
export type DpoOptions = OptionsOf<typeof dpoEntries>;

/**
 * Direct preference optimisation (Rafailov et al., 2023, arXiv 2305.18290): raises log p / p_reference of the chosen
 * answer above that of the rejected one; the mean over rows by weight. The reference is the frozen model, without the
 * adapter. `train` computes its log-probabilities once.
 * @throws ConfigError for options out of their range.
 */
export function dpo(options: DpoOptions = {}): Loss {
  const { beta, lossType, labelSmoothing } = parseOptions('dpo', dpoEntries, options);
  if (labelSmoothing > 0 && lossType !== 'robust') {
    throw new ConfigError(
      `labelSmoothing is for lossType 'robust', got '${lossType}': set that, or leave labelSmoothing out`,
      'labelSmoothing',
    );
  }
  return ofAnswers({
    name: 'dpo',
    settings: { beta, lossType, ...(labelSmoothing > 0 && { labelSmoothing }) },
    needsReference: true,
    ofSurprise(surprise, { labels, rowWeights, inputs }) {
      const { logps, tokens } = answersOf(surprise, labels);
      const [chosen, rejected] = tf.unstack(tensorAt(inputs, REFERENCE_LOGPS), 1) as [Tensor, Tensor];
      const ratios = both(tf.sub, logps, { chosen, rejected });
      const perToken = both(tf.div, ratios, tokens);
      return weightedMean(lossTypes[lossType]({ ratios, perToken, beta, labelSmoothing }), rowWeights);
    },
  });
}

/** Options of `orpo`, with TRL's names and defaults. */
export interface OrpoOptions {
  /** The weight of the odds ratio, lambda in the paper. Above 0. Default 0.1. */
  readonly beta?: number;
}

/** The largest mean log-probability: at 0 the odds are infinite, and a row without tokens has 0. */
const MOST_LOGP = -1e-6;

/**
 * Odds ratio preference optimisation (Hong et al., 2024, arXiv 2403.07691, eq. 6 and 7): the cross-entropy of the
 * chosen texts, prompts included, and beta times -log sigmoid of the log odds ratio of the two answers, where p is the
 * mean per token. It needs no reference.
 * @throws ConfigError for options out of their range.
 */
export function orpo(options: OrpoOptions = {}): Loss {
  const { beta } = parseOptions('orpo', { beta: v.optional(positive, 0.1) }, options);
  return ofAnswers({
    name: 'orpo',
    settings: { beta },
    ofSurprise(surprise, batch) {
      const ids = tensorAt(batch.inputs, 'inputIds');
      const known = surprise(tf.reshape(next(ids, 0), [-1])); // labels are the input tokens: one pass serves both terms
      const { logps, tokens } = answersOf(() => known, batch.labels);
      const { chosen, rejected } = both(tf.div, logps, tokens);
      const ratio = weightedMean(softly(tf.sub(logOdds(chosen), logOdds(rejected))), batch.rowWeights);
      return tf.add(
        chosenTexts(() => known, ids, batch),
        tf.mul(ratio, beta),
      );
    },
  });
}

/** log p / (1 - p) of log p. */
function logOdds(logp: Tensor): Tensor {
  const x = tf.minimum(logp, MOST_LOGP);
  return tf.sub(x, tf.log(tf.neg(tf.expm1(x))));
}

/** The mean surprise over all tokens of the chosen texts but the first, prompts included. */
function chosenTexts(surprise: Surprise, ids: Tensor, { inputs, rowWeights, labels }: LossBatch): Scalar {
  const isChosen = tf.concat([rowWeights, tf.zerosLike(rowWeights)]); // [2 * batch]
  const weights = tokenWeights({ inputs, labels, rowWeights: isChosen });
  return meanOverTokens(surprise, next(ids, -100), next(weights, 0));
}

/** A loss of preferences from the surprise at their tokens alone. */
function ofAnswers(own: Pick<Loss, 'name' | 'settings' | 'needsReference'> & Required<Pick<Loss, 'ofSurprise'>>): Loss {
  return {
    ...own,
    labels: 'preferences',
    loss: (logits, batch) => own.ofSurprise(surpriseOf(logits), batch),
  };
}
