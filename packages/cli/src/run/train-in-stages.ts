import { activeAdapter, activeRanks, type PeftModel } from '@peftjs/core';
import { storedParameters } from '@peftjs/core/model';
import {
  sparsify,
  type Checkpoint,
  type SparsifyOptions,
  type StageRecord,
  type TrainResult,
} from '@peftjs/core/runtime';
import type { SparsityStage } from '../results/schema.js';
import { epochsBefore, type Stages } from '../study/stages.js';
import type { TrialRecording } from './recorder.js';
import type { PreparedTrial } from './prepare.js';

/** The training options that all stages share. */
export type StageTraining = Omit<
  SparsifyOptions,
  'levels' | 'stageEpochs' | 'onStep' | 'onEvaluation' | 'onStage' | 'onSnapshot' | 'saveEvery' | 'resume'
>;

/** The result of a training run that takes all its planned steps. */
export type TrainedAtOnce = Omit<TrainResult, 'stoppedEarly'>;

/** The result of training in stages. The selected checkpoint is the last one, which the model's adapter holds. */
export interface TrainedInStages extends TrainedAtOnce {
  /** The results of the stages. */
  readonly stages: SparsityStage[];
}

/**
 * Trains a trial with the sparsifying schedule. The first stage keeps its best checkpoint on the selection split, as
 * any trial does. Memorization is measured on a sample of the training rows, generalization on the reported split.
 */
export async function trainInStages(
  peft: PeftModel,
  { train, trainSubset, selection, dev }: PreparedTrial,
  stages: Stages,
  training: StageTraining,
  { recorder, checkpoints, from }: TrialRecording,
): Promise<TrainedInStages> {
  const { levels, stageEpochs, memorizationRows } = stages;
  const stepsBefore = (stage: number): number => train.batchesPerEpoch * epochsBefore(stage, stages, training.epochs);
  const totalSteps = stepsBefore(levels.length);
  let compileMs = 0;
  const records = await sparsify(
    peft,
    { train, trainSubset: await trainSubset(memorizationRows), validation: selection, reported: dev },
    {
      ...training,
      levels,
      stageEpochs,
      onStep(event, stage) {
        const step = event.step + stepsBefore(stage);
        const epoch = event.epoch + epochsBefore(stage, stages, training.epochs);
        recorder.onStep({ ...event, step, epoch, totalSteps }, { stage, stages: levels.length });
      },
      onEvaluation: recorder.onEvaluation,
      onStage(record, trained) {
        compileMs += trained.compileMs;
        // The curve shows the end of every stage; the first one has evaluated its checkpoints.
        const metrics = { [selection.primaryMetric]: record.validationMetric };
        if (record.stage > 0) recorder.onEvaluation({ ...record, metrics });
      },
      saveEvery: checkpoints.isDue,
      onSnapshot: ({ stages: done, training: now }) =>
        checkpoints.write({ training: now, record: recorder.stored(), stages: done }),
      ...(from && { resume: { stages: (from.stages ?? []) as readonly StageRecord[], training: from.training } }),
    },
  );
  const last = heldCheckpoint(peft, totalSteps);
  return {
    totalSteps,
    selected: last,
    last,
    meanParameters: meanOf(records, stages, training.epochs),
    compileMs,
    stages: records.map(({ validationMetric: selectionMetric, reportedMetric: devMetric, ...record }) => ({
      ...{ ...record, ranks: { ...record.ranks } },
      selectionMetric,
      devMetric,
    })),
  };
}

/** The adapter that a model holds, as a checkpoint. */
export function heldCheckpoint(peft: PeftModel, step: number): Checkpoint {
  const { layers, values } = activeAdapter(peft);
  const ranks = activeRanks(layers, values);
  return { step, layers, values, metrics: {}, storedParameters: storedParameters(layers, values), ranks };
}

/** Stored parameters, averaged over the steps of all stages. */
function meanOf(records: readonly StageRecord[], stages: Stages, epochs: number): number {
  const before = (stage: number): number => epochsBefore(stage, stages, epochs);
  const sum = records.reduce(
    (all, { stage, meanParameters }) => all + meanParameters * (before(stage + 1) - before(stage)),
    0,
  );
  return sum / before(records.length);
}
