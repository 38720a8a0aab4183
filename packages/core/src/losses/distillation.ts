import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parseOptions, positive, type OptionsOf } from '../config.js';
import { ShapeError } from '../errors.js';
import { tensorAt } from '../tensors.js';
import { cosines } from './embeddings.js';
import { weightedMean, type Loss, type LossBatch } from './loss.js';
import { crossEntropy } from './losses.js';

/*
 * Losses on what a teacher gives each row. The teacher's outputs are an input of the batches, which the model does not
 * read: `withInputs(data, { teacher: await predict(..) })`.
 */

/** The input with the teacher's outputs. */
const TEACHER = 'teacher';

const distillationEntries = {
  /** T: a larger one shows more of what the teacher thinks of the wrong classes. Above 0. Default 2. */
  temperature: v.optional(positive, 2),
  /**
   * The weight of the teacher, from 0 to 1; that of the labels is 1 - alpha. With 1, labels are not read. Default 0.5.
   */
  alpha: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.5),
};

/** Options of `distillation`. */
export type DistillationOptions = OptionsOf<typeof distillationEntries>;

/**
 * Distillation of a classifier (Hinton et al., 2015, arXiv 1503.02531, section 2): with logits z of the model and t of
 * the teacher, `inputs.teacher` `[batch, classes]`,
 *
 *   alpha T^2 KL(softmax(t / T) || softmax(z / T)) + (1 - alpha) crossEntropy(z, labels)
 *
 * averaged over rows by weight.
 * @throws ConfigError for options out of their range.
 */
export function distillation(options: DistillationOptions = {}): Loss {
  const { temperature, alpha } = parseOptions('distillation', distillationEntries, options);
  const ofLabels = crossEntropy();
  return {
    name: 'distillation',
    settings: { temperature, alpha },
    labels: 'classification',
    loss(logits, batch) {
      const [, classes = 0] = logits.shape;
      const taught = tf.logSoftmax(tf.div(taughtIn(batch, classes), temperature)); // [batch, classes]
      const learnt = tf.logSoftmax(tf.div(logits, temperature));
      const divergence = tf.sum(tf.mul(tf.exp(taught), tf.sub(taught, learnt)), -1); // [batch]
      const ofTeacher: Scalar = tf.mul(weightedMean(divergence, batch.rowWeights), temperature ** 2 * alpha);
      return alpha === 1 ? ofTeacher : tf.add(ofTeacher, tf.mul(ofLabels.loss(logits, batch), 1 - alpha));
    },
  };
}

/** Options of `embeddingDistillation`. */
export interface EmbeddingDistillationOptions {
  /**
   * How far embeddings x of the model and t of the teacher are apart: the mean of (x - t)^2, or 1 - cos(x, t). Default
   * 'mse'.
   */
  readonly distance?: 'mse' | 'cosine';
}

/**
 * Distillation of embeddings, as sentence-transformers' `MSELoss`: the distance of the model's embedding of each text
 * from the teacher's, averaged over texts by the weights of their rows. `inputs.teacher` is `[batch, columns * width]`:
 * for each row the embeddings of its texts, one after the other. Labels are not read.
 * @throws ConfigError for an unknown distance.
 */
export function embeddingDistillation(options: EmbeddingDistillationOptions = {}): Loss {
  const entries = { distance: v.optional(v.picklist(['mse', 'cosine']), 'mse') };
  const { distance } = parseOptions('embeddingDistillation', entries, options);
  return {
    name: 'embedding-distillation',
    settings: { distance },
    loss(outputs, batch) {
      const taught = byColumns(outputs, batch);
      const apart =
        distance === 'cosine'
          ? tf.sub(1, cosines(outputs, taught))
          : tf.mean(tf.squaredDifference(outputs, taught), -1); // [columns * batch]
      const columns = outputs.shape[0] / batch.rowWeights.shape[0];
      return weightedMean(apart, tf.tile(batch.rowWeights, [columns]));
    },
  };
}

/** Orders the teacher's embeddings as the model's: `[batch, columns * width]` -> `[columns * batch, width]`. */
function byColumns(outputs: Tensor, batch: LossBatch): Tensor {
  const [texts = 0, width = 0] = outputs.shape;
  const columns = texts / batch.rowWeights.shape[0];
  const taught = taughtIn(batch, columns * width);
  return columns === 1 ? taught : tf.concat(tf.split(taught, columns, 1));
}

/** Returns the teacher's outputs `[batch, width]`. @throws ShapeError for another width: one number would broadcast. */
function taughtIn({ inputs }: LossBatch, width: number): Tensor {
  const taught = tensorAt(inputs, TEACHER);
  const given = taught.shape.slice(1).join(', ');
  if (given === String(width)) return taught;
  throw new ShapeError(
    `'${TEACHER}' has the shape [${given}] for each row; the model's outputs have [${width}]`,
    TEACHER,
  );
}
