import { predict, train, type Model, type PeftModel, type TrainOptions } from '@peftjs/core';
import type { TargetConfig } from '@peftjs/core/method';
import type { TrainResult } from '@peftjs/core/runtime';
import { referenceExecutor } from './reference-executor.js';
import { toyEvaluationData, toyTrainingData } from './toy-model.js';

/** Trains on the toy task in place, by default with the reference executor, in four steps per epoch. */
export async function trainToy<C extends TargetConfig>(
  peft: PeftModel<C>,
  options: Partial<TrainOptions> & Pick<TrainOptions, 'epochs'>,
  data = toyTrainingData(),
): Promise<TrainResult> {
  return train(peft, data, { executor: await referenceExecutor(), learningRate: 0.02, ...options });
}

/** Returns the concatenated outputs on toy rows, by default on rows that were not trained on. */
export async function toyOutputs<C extends TargetConfig>(
  model: PeftModel<C> | Model,
  { batches } = toyEvaluationData(),
): Promise<number[]> {
  const rows = await predict(model, batches, { executor: await referenceExecutor() });
  return rows.flatMap((row) => [...row]);
}
