import type { Executor } from '../contracts/executor.js';
import type { InputBatch, Model, SplitForward, TrainingData } from '../contracts/model.js';
import { isInHead } from '../head.js';
import { modelInputs } from '../runtime/inputs.js';
import { nextTask } from '../runtime/program.js';
import { openRuntime, type ForwardPass, type Runtime } from '../runtime/runtime.js';
import { hostRows, sizeOf, tensorAt, type HostTensor } from '../tensors.js';
import { downloadPass } from './evaluate.js';

/*
 * Where only the head is trained, the features that it reads never change. They are computed once per text, when a step
 * or an evaluation first needs them, and after that only the head runs. They stay in memory for the run: texts x width
 * floats, and each text's tokens, by which it is known again. Its number would not do: a data set may change the texts
 * of its rows from epoch to epoch.
 *
 * How far a text is padded changes the last bits of its features. They are computed in its batch of the first epoch,
 * whichever batch needs them, so that a resumed run has the same bits.
 */

/** What a run computes its steps and evaluations with. */
export interface TrainedOn {
  /** The whole model on its executor, or only the model's head. */
  readonly runtime: Runtime;
  /** Returns batches with all inputs of the runtime's model, the features included. */
  read<B extends InputBatch>(batches: readonly B[]): Promise<readonly B[]>;
}

/**
 * Opens a model's head, to train it alone; the caller closes its runtime.
 * @param data its training data
 */
export function openHead(model: Model, split: SplitForward, data: TrainingData, executor: Executor): TrainedOn {
  const whole = openRuntime(model, executor);
  const head = openRuntime(headOf(model, split), executor);
  return {
    read: featureReader(whole, split, data),
    runtime: {
      ...head,
      async close() {
        await head.close();
        await whole.close(); // last, so that its weights stay for the predictions that follow
      },
    },
  };
}

/** The name of the features in a batch, which no input of a model has. */
const FEATURES = ':features';

/** Returns the model's head as a model of its own, which reads the features of a batch. */
function headOf(model: Model, { outputs }: SplitForward): Model {
  return {
    ...model,
    weights: Object.fromEntries(Object.entries(model.weights).filter(([name]) => isInHead(model, name))),
    lookups: [],
    forward: (scope, inputs) => outputs(scope, tensorAt(inputs, FEATURES)),
  };
}

/** Returns a function that adds the features to batches. */
function featureReader(whole: Runtime, { features }: SplitForward, data: TrainingData): TrainedOn['read'] {
  const pass: ForwardPass = {
    name: 'features',
    compute: (scope, inputs) => ({ outputs: features(scope, inputs) }), // [texts, width]
  };
  const homes = new Map<string, InputBatch>(); // the batch in which a text's features are computed
  const known = new Map<string, Float32Array>();
  const settle = (batch: InputBatch, texts: readonly string[]): void => {
    for (const text of texts) if (!homes.has(text)) homes.set(text, batch);
  };
  const learn = async (batch: InputBatch): Promise<void> => {
    const inputs = modelInputs(whole.model, {}, batch);
    const found = await downloadPass(whole, {}, {}, pass, { inputs, rows: {} }, batch);
    for (const [row, text] of textsOf(batch).entries()) {
      if (homes.get(text) === batch) known.set(text, rowOf(found, row).slice() as Float32Array);
    }
    await nextTask();
  };
  const featuresOf = async (text: string): Promise<Float32Array> => {
    if (!known.has(text)) await learn(homes.get(text) as InputBatch);
    return known.get(text) as Float32Array;
  };
  return async (batches) => {
    if (homes.size === 0) for (const batch of data.epoch(0)) settle(batch, textsOf(batch));
    const read = [];
    for (const batch of batches) {
      const texts = textsOf(batch);
      settle(batch, texts);
      const rows: Float32Array[] = [];
      for (const text of texts) rows.push(await featuresOf(text));
      const features = hostRows(rows);
      // A text of the batch may happen to have as many tokens as features.
      const axes = { ...batch.axes, [FEATURES]: ['batch', features.shape[1] as number] } as const;
      read.push({ ...batch, inputs: { ...batch.inputs, [FEATURES]: features }, axes });
    }
    return read;
  };
}

/** Returns each text of a batch as its inputs up to the last token: how far it is padded depends on the batch. */
function textsOf({ inputs }: InputBatch): string[] {
  const { attentionMask } = inputs;
  const [texts = 0] = Object.values(inputs)[0]?.shape ?? [];
  const read = Object.values(inputs).map((input) => ({
    input,
    isOfTokens: input.shape.join() === attentionMask?.shape.join(),
  }));
  return Array.from({ length: texts }, (_, row) => {
    const tokens = attentionMask && rowOf(attentionMask, row).lastIndexOf(1) + 1;
    return read
      .map(({ input, isOfTokens }) => rowOf(input, row).subarray(0, isOfTokens ? tokens : undefined))
      .join(';');
  });
}

function rowOf({ data, shape }: HostTensor, row: number): HostTensor['data'] {
  const size = sizeOf(shape.slice(1));
  return data.subarray(row * size, (row + 1) * size);
}
