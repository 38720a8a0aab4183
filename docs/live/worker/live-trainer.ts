import { activeAdapter, type Executor } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import type { DeviceReport, FromWorker, ToWorker, TrainingRequest } from '../messages.js';
import { adapterZip } from './adapter-zip.js';
import type { Learner } from './learner.js';
import { prepareLesson, readSentences, type Lesson } from './lesson.js';
import { recipeFor } from './methods.js';
import { reasonOf } from './reason.js';
import { startAdapter, trainAdapter, trainHead } from './training.js';

/** The device that a tab computes on. */
export interface Device extends DeviceReport {
  readonly executor: Executor;
}

/** What the trainer needs from its environment: a browser's worker, or a test. */
export interface Surroundings {
  openDevice(): Promise<Device>;
  loadModel(labels: readonly string[], signal: AbortSignal): Promise<PretrainedModel>;
}

/** The models of the current run: the frozen encoder with a head, and the adapted model. */
interface Trained {
  lesson?: Lesson;
  frozen?: Learner;
  adapted?: Learner;
}

/** Requests of the page that are not answered yet: the text to predict, and whether to pack the adapter. */
interface Pending {
  text?: string;
  adapter?: boolean;
}

/**
 * Handles the page's messages: trains and, between two steps, predicts, packs the adapter, changes the threshold or
 * stops. A request to train stops the current run and starts after it.
 */
export function liveTrainer(
  surroundings: Surroundings,
  tell: (message: FromWorker) => void,
): (message: ToWorker) => Promise<void> {
  let threshold = 0;
  let stopper = new AbortController();
  let trainings = 0; // running or waiting
  let trained: Trained = {};
  let pending: Pending = {};

  const inTurn = oneByOne((error) => tell({ kind: 'failed', reason: reasonOf(error) }));
  const openDevice = untilItSucceeds(surroundings.openDevice);

  const answerPending = async (): Promise<void> => {
    const { text, adapter } = pending;
    pending = {};
    if (text !== undefined) tell(await predicted(text, trained));
    if (adapter && trained.adapted) tell(await saved(trained.adapted));
  };

  const learn = async (request: TrainingRequest, signal: AbortSignal): Promise<void> => {
    const data = await readSentences(request.sentences);
    signal.throwIfAborted();
    const { executor, ...report } = await openDevice();
    signal.throwIfAborted();
    tell({ kind: 'device', device: report });
    const model = await surroundings.loadModel(data.train.classes, signal);
    const lesson = prepareLesson(data, model, request.seed);
    trained = { lesson };
    const { epochs, seed } = request;
    const reportEvery = report.backend === 'webgpu' ? 5 : 1;
    const plan = { lesson, executor, epochs, seed, reportEvery, signal, tell };
    trained.frozen = await trainHead(plan);
    const recipe = recipeFor(request.method, () => threshold);
    trained.adapted = startAdapter(plan, recipe);
    await trainAdapter(trained.adapted, recipe, plan, answerPending);
  };

  const run = async (request: TrainingRequest, signal: AbortSignal): Promise<void> => {
    try {
      await learn(request, signal);
      tell({ kind: 'ended', how: 'finished' });
    } catch (error) {
      tell(signal.aborted ? { kind: 'ended', how: 'stopped' } : { kind: 'failed', reason: reasonOf(error) });
    }
    await answerPending();
  };

  const start = async (request: TrainingRequest): Promise<void> => {
    stopper.abort();
    stopper = new AbortController();
    threshold = request.threshold;
    const { signal } = stopper;
    trainings++;
    await inTurn(() => run(request, signal));
    trainings--;
  };

  return async (message) => {
    switch (message.kind) {
      case 'train':
        return start(message);
      case 'threshold':
        threshold = message.threshold;
        return;
      case 'stop':
        stopper.abort();
        return;
      case 'predict':
        pending.text = message.text;
        break;
      case 'save':
        pending.adapter = true;
    }
    if (trainings === 0) await inTurn(answerPending);
  };
}

/** Runs tasks one after another, because an ONNX Runtime session cannot run twice at once. */
function oneByOne(onError: (error: unknown) => void): (task: () => Promise<void>) => Promise<void> {
  let last = Promise.resolve();
  return (task) => (last = last.then(task).catch(onError));
}

/** Caches the result of `open`; after a failure, the next call tries again. */
function untilItSucceeds<T>(open: () => Promise<T>): () => Promise<T> {
  let opened: Promise<T> | undefined;
  return async () => {
    opened ??= open();
    try {
      return await opened;
    } catch (error) {
      opened = undefined;
      throw error;
    }
  };
}

async function predicted(text: string, { lesson, frozen, adapted }: Trained): Promise<FromWorker> {
  if (!lesson || !frozen) return { kind: 'unpredictable', text, reason: 'Train first: there is no model yet.' };
  try {
    const question = lesson.question(text);
    const before = await frozen.probabilities(question);
    const after = adapted && { after: await adapted.probabilities(question) };
    return { kind: 'prediction', text, classes: lesson.classes, before, ...after };
  } catch (error) {
    return { kind: 'unpredictable', text, reason: reasonOf(error) };
  }
}

async function saved({ peft }: Learner): Promise<FromWorker> {
  return { kind: 'adapter', name: `${activeAdapter(peft).method.name}-adapter.zip`, zip: await adapterZip(peft) };
}
