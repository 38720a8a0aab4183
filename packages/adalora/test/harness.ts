import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { attach, type PeftModel, type TrainingData, type TrainOptions } from '@peftjs/core';
import type { TrainingSnapshot, TrainResult } from '@peftjs/core/runtime';
import { toyModel, trainToy as trainOnToy } from '@peftjs/conformance';

/** AdaLoRA on the toy model. */
export const attached = (options: Partial<AdaloraConfig> = {}): PeftModel<AdaloraConfig> =>
  attach(toyModel(), adalora({ initR: 4, targetR: 2, ...options }), { seed: 1 });

/** Trains on the toy task in place, with four steps per epoch. */
export const trainToy = (
  peft: PeftModel,
  options: Partial<TrainOptions> = {},
  data?: TrainingData,
): Promise<TrainResult> => trainOnToy(peft, { epochs: 12, ...options }, data);

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
