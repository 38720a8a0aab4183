import * as tf from '@tensorflow/tfjs-core';
import { attach, train, type TrainOptions } from '@peftjs/core';
import { toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

describe.each([
  ['the compiled executor', compiled({ threads: 1 })],
  ['the eager executor', await eager({ backend: 'cpu' })],
])('a loss with a broken gradient, on %s', (_, executor) => {
  const training = (loss: NonNullable<TrainOptions['loss']>) =>
    train(attach(toyModel(), lora({ r: 2 }), { seed: 1 }), toyTrainingData(1, 1), {
      executor,
      epochs: 1,
      learningRate: 1e-2,
      loss,
    });

  it('is refused with the op that replaces tf.logSigmoid, which then trains', async () => {
    await expect(training((outputs) => tf.neg(tf.mean<tf.Scalar>(tf.logSigmoid(outputs))))).rejects.toMatchObject({
      code: 'PEFT_TRAINING',
      message: expect.stringMatching(
        /^the gradient of the loss .*logSigmoid.*tf\.neg\(tf\.softplus\(tf\.neg\(x\)\)\)$/,
      ) as string,
    });
    const { totalSteps } = await training((outputs) => tf.mean(tf.softplus(tf.neg(outputs))));
    expect(totalSteps).toBe(1);
  });

  it('is refused by the name of an op without one', async () => {
    await expect(training((outputs) => tf.mean(tf.topk(outputs, 1).values))).rejects.toMatchObject({
      code: 'PEFT_TRAINING',
      message: expect.stringMatching(/^the gradient of the loss cannot be computed: .*TopK/) as string,
    });
  });
});
