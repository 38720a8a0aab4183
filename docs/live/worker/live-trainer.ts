import { activeAdapter, type Executor } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import type { DeviceReport, FromWorker, ToWorker, TrainingRequest } from '../messages.js';
import { adapterZip } from './adapter-zip.js';
import { attentive } from './attentive.js';
import type { Learner } from './learner.js';
import { prepareLesson, readSentences, type Lesson } from './lesson.js';
import { recipeFor } from './methods.js';
import { reasonOf } from './reason.js';
import { startAdapter, trainAdapter, trainHead } from './training.js';

/** What a tab computes on. */
export interface Device extends DeviceReport {
  readonly executor: Executor;
}

/** What the trainer finds around it: a browser's worker, or a test. */
export interface Surroundings {
  openDevice(): Promise<Device>;
  loadModel(labels: readonly string[]): Promise<PretrainedModel>;
}

/** What has been learnt: the frozen encoder with a head, and the adapter. */
interface Learnt {
  lesson?: Lesson;
  frozen?: Learner;
  adapted?: Learner;
}

/** What the page asked for and did not get yet. */
interface Wishes {
  text?: string;
  adapter?: boolean;
}

/**
 * Does what the page asks for: trains, and between two steps predicts, saves, moves the threshold and stops. A training that
 * is asked for while another one runs begins when that one has stopped.
 */
export function liveTrainer(
  surroundings: Surroundings,
  tell: (message: FromWorker) => void,
): (message: ToWorker) => Promise<void> {
  let threshold = 0;
  let stopper = new AbortController();
  let trainings = 0; // that run or wait
  let learnt: Learnt = {};
  let wishes: Wishes = {};

  const inTurn = oneByOne((error) => tell({ kind: 'failed', reason: reasonOf(error) }));
  const openDevice = untilItSucceeds(surroundings.openDevice);

  const grantWishes = async (): Promise<void> => {
    const { text, adapter } = wishes;
    wishes = {};
    if (text !== undefined) tell(await predicted(text, learnt));
    if (adapter && learnt.adapted) tell(await saved(learnt.adapted));
  };

  const learn = async (request: TrainingRequest, signal: AbortSignal): Promise<void> => {
    const data = await readSentences(request.sentences);
    signal.throwIfAborted();
    const { executor: own, ...report } = await openDevice();
    tell({ kind: 'device', device: report });
    const model = await surroundings.loadModel(data.train.classes);
    const lesson = prepareLesson(data, model, request.seed);
    learnt = { lesson };
    const { epochs, seed } = request;
    const reportEvery = report.backend === 'webgpu' ? 5 : 1;
    const plan = { lesson, executor: attentive(own), epochs, seed, reportEvery, signal, tell };
    learnt.frozen = await trainHead(plan);
    const recipe = recipeFor(request.method, () => threshold);
    learnt.adapted = startAdapter(plan, recipe);
    await trainAdapter(learnt.adapted, recipe, plan, grantWishes);
  };

  const run = async (request: TrainingRequest, signal: AbortSignal): Promise<void> => {
    try {
      await learn(request, signal);
      tell({ kind: 'ended', how: 'finished' });
    } catch (error) {
      tell(signal.aborted ? { kind: 'ended', how: 'stopped' } : { kind: 'failed', reason: reasonOf(error) });
    }
    await grantWishes();
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
        wishes.text = message.text;
        break;
      case 'save':
        wishes.adapter = true;
    }
    if (trainings === 0) await inTurn(grantWishes);
  };
}

/** Runs one task after the other: ONNX Runtime's sessions take no two runs at once. */
function oneByOne(onError: (error: unknown) => void): (task: () => Promise<void>) => Promise<void> {
  let last = Promise.resolve();
  return (task) => (last = last.then(task).catch(onError));
}

/** Opens once, and again where that failed. */
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

async function predicted(text: string, { lesson, frozen, adapted }: Learnt): Promise<FromWorker> {
  if (!lesson || !frozen) return { kind: 'unpredictable', text, reason: 'Train first: there is no model to ask yet.' };
  try {
    const question = await lesson.question(text);
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
