import type { Batch, EvaluationData, TrainingData } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData, readTable, trainingData, type DataSet } from '@peftjs/tasks';
import type { Sentences } from '../messages.js';

/** Sentences made ready for a model that has an output for each of their classes. */
export interface Lesson {
  readonly model: PretrainedModel;
  readonly classes: readonly string[];
  readonly train: TrainingData;
  readonly heldOut: EvaluationData;
  /** Some of the training sentences, on which memorization is measured. */
  readonly trainSubset: EvaluationData;
  /** A batch of one text. @throws DataError for a text without a token. */
  question(text: string): Promise<Batch>;
}

/** Longer sentences are cut. */
const MAX_TOKENS = 32;
const BATCH_SIZE = 16;
/** Training sentences that memorization is measured on. */
const MEMORIZED = 100;

/** The reader's sentences as they are trained on and judged by. */
export interface LessonData {
  readonly train: DataSet;
  readonly heldOut: DataSet;
}

/** @throws DataError for the first thing that is wrong with the sentences, naming the line. */
export async function readSentences(sentences: Sentences): Promise<LessonData> {
  const train = await read(sentences.train, 'training sentences');
  return { train, heldOut: await read(sentences.heldOut, 'held-out sentences', train) };
}

/** Cuts the sentences into tokens and batches. @throws DataError for one without a token. */
export function prepareLesson({ train, heldOut }: LessonData, model: PretrainedModel, seed: number): Lesson {
  const { classes } = train;
  const maxTokens = Math.min(MAX_TOKENS, model.maxTokens);
  const encode = (rows: DataSet) => encodeRows(rows, model.tokenizer, { maxTokens });
  return {
    model,
    classes,
    train: trainingData(encode(train), { batchSize: BATCH_SIZE, seed }),
    heldOut: evaluationData(encode(heldOut), { batchSize: BATCH_SIZE }),
    trainSubset: evaluationData(encode({ ...train, rows: train.rows.slice(0, MEMORIZED) }), { batchSize: BATCH_SIZE }),
    async question(text) {
      const asked = encode(
        await createDataSet({ name: 'your sentence', kind: 'classification', classes, rows: [{ text, label: 0 }] }),
      );
      return evaluationData(asked, { batchSize: 1 }).batches[0] as Batch;
    },
  };
}

function read(table: string, path: string, like?: DataSet): Promise<DataSet> {
  const kind = 'classification';
  return readTable(new TextEncoder().encode(table), { path, format: 'tsv', kind, ...(like && { like }) });
}
