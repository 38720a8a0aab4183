import { head } from '@peftjs/baselines';
import { activeAdapter, attach, train, type Executor } from '@peftjs/core';
import { baseParameters, storedParameters } from '@peftjs/core/model';
import type { StepEvent } from '@peftjs/core/runtime';
import type { FromWorker, Progress } from '../messages.js';
import { openLearner, type Learner } from './learner.js';
import type { Lesson } from './lesson.js';
import type { Recipe } from './methods.js';
import { moduleRanks } from './ranks.js';

/** The data, device and settings of a training run. */
export interface Training {
  readonly lesson: Lesson;
  readonly executor: Executor;
  readonly epochs: number;
  readonly seed: number;
  /** Steps between two reports. Each report copies all values to the host, which is slow on a GPU. */
  readonly reportEvery: number;
  readonly signal: AbortSignal;
  readonly tell: (message: FromWorker) => void;
}

/** The learning rate of the head on the frozen encoder. */
const HEAD_RATE = 1e-2;
/** Evaluations of the held-out sentences per epoch. */
const SCORES_PER_EPOCH = 2;

/** Trains a head on the frozen encoder: the baseline for every adapter. */
export async function trainHead({ lesson, executor, epochs, seed, signal, tell }: Training): Promise<Learner> {
  const peft = attach(lesson.model, head(), { seed });
  await train(peft, lesson.train, {
    executor,
    signal,
    epochs,
    learningRate: HEAD_RATE,
    onStep: ({ step, totalSteps }) => tell({ kind: 'preparing', step, totalSteps }),
  });
  const learner = openLearner(peft, executor);
  const scores = await learner.scores(lesson.heldOut);
  tell({ kind: 'frozen', scores, baseParameters: baseParameters(lesson.model) });
  return learner;
}

/** Attaches an untrained adapter to the model. */
export function startAdapter({ lesson, executor, seed }: Training, { configured }: Recipe): Learner {
  return openLearner(attach(lesson.model, configured, { seed }), executor);
}

/**
 * Trains an adapter together with the head, and updates the learner before every report.
 * @param betweenSteps answers requests that arrived during the last steps
 */
export async function trainAdapter(
  learner: Learner,
  { configured, rates }: Recipe,
  { lesson, executor, epochs, reportEvery, signal, tell }: Training,
  betweenSteps: () => Promise<void>,
): Promise<void> {
  const scoreEvery = Math.ceil(lesson.train.batchesPerEpoch / SCORES_PER_EPOCH);
  let newest: StepEvent | undefined;
  const report = async (isLast: boolean): Promise<void> => {
    if (!newest) return;
    tell({ kind: 'progress', ...progressOf(newest, learner) });
    const { step } = newest;
    if (isLast || step % scoreEvery === 0) {
      tell({ kind: 'scores', step, scores: await learner.scores(lesson.heldOut) });
    }
  };
  const { peft } = learner;
  const { method, config } = configured;
  const { sizing } = await train(peft, lesson.train, {
    executor,
    signal,
    epochs,
    ...rates,
    ...(method.sizing?.(config) && { selection: { data: lesson.heldOut, trainSubset: lesson.trainSubset } }),
    onStep: (event) => (newest = event),
    onStage: ({ storedParameters: parameters, memorization, generalization }) =>
      tell({ kind: 'size', parameters, memorization, generalization }),
    saveEvery: (step) => step % reportEvery === 0 || step % scoreEvery === 0,
    async onSnapshot({ adapter }) {
      learner.learn(adapter);
      await report(false);
      await betweenSteps();
    },
  });
  learner.learn(activeAdapter(peft).values);
  await report(true);
  const chosen = sizing?.stages[sizing.chosen];
  if (chosen) tell({ kind: 'chosen', parameters: chosen.storedParameters, reason: sizing.reason });
}

function progressOf({ step, totalSteps, loss, milliseconds }: StepEvent, { peft }: Learner): Progress {
  const adapter = activeAdapter(peft);
  const parameters = storedParameters(adapter.layers, adapter.values);
  return { step, totalSteps, loss, milliseconds, parameters, modules: moduleRanks(adapter) };
}
