import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { attach, predict, train, type Model, type PeftModel, type TrainOptions } from '@peftjs/core';
import type { TrainingSnapshot, TrainResult } from '@peftjs/core/runtime';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';

/** AdaLoRA on the toy model. */
export const attached = (options: Partial<AdaloraConfig> = {}): PeftModel<AdaloraConfig> =>
  attach(toyModel(), adalora({ initR: 4, targetR: 2, ...options }), { seed: 1 });

/** Trains on the toy task in place, with four steps per epoch. */
export const trainToy = async (
  peft: PeftModel,
  options: Partial<TrainOptions> = {},
  data = toyTrainingData(),
): Promise<TrainResult> =>
  train(peft, data, { executor: await referenceExecutor(), epochs: 12, learningRate: 0.02, ...options });

/** Trains in the same way and returns the snapshots of all steps but the last, by step. */
export const snapshotsOf = async (
  peft: PeftModel,
  options: Partial<TrainOptions> = {},
): Promise<Map<number, TrainingSnapshot>> => {
  const snapshots = new Map<number, TrainingSnapshot>();
  const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.set(snapshot.step, snapshot);
  await trainToy(peft, { saveEvery: 1, onSnapshot, ...options });
  return snapshots;
};

/** Returns the outputs on held-out rows. */
export const outputsOf = async (model: PeftModel | Model): Promise<number[]> =>
  (await predict(model, toyEvaluationData().batches, { executor: await referenceExecutor() })).flatMap((row) => [
    ...row,
  ]);
