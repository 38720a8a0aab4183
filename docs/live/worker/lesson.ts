import type { EvaluationData, InputBatch, TrainingData } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import {
  encodeRows,
  encodeTexts,
  evaluationData,
  inputBatches,
  readTable,
  trainingData,
  type DataSet,
} from '@peftjs/tasks';
import type { Sentences } from '../messages.js';

/** Tokenized sentences, and a model with one output per class. */
export interface Lesson {
  readonly model: PretrainedModel;
  readonly classes: readonly string[];
  readonly train: TrainingData;
  readonly heldOut: EvaluationData;
  /** A sample of the training sentences, to measure memorization on. */
  readonly trainSubset: EvaluationData;
  /** Returns a batch of one text. @throws DataError if the text has no tokens */
  question(text: string): InputBatch;
}

/** Longer sentences are truncated. */
const MAX_TOKENS = 32;
const BATCH_SIZE = 16;
/** The number of training sentences to measure memorization on. */
const MEMORIZED = 100;

/** The parsed training and held-out sentences. */
export interface LessonData {
  readonly train: DataSet;
  readonly heldOut: DataSet;
}

/** Parses both tables. @throws DataError for the first error, naming its line */
export async function readSentences(sentences: Sentences): Promise<LessonData> {
  const train = await read(sentences.train, 'training sentences');
  return { train, heldOut: await read(sentences.heldOut, 'held-out sentences', train) };
}

/** Tokenizes and batches the sentences. @throws DataError for a sentence without tokens */
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
    question(text) {
      const [batch] = inputBatches(encodeTexts([text], model.tokenizer, { maxTokens }), { batchSize: 1 });
      return batch as InputBatch;
    },
  };
}

function read(table: string, path: string, like?: DataSet): Promise<DataSet> {
  const kind = 'classification';
  return readTable(new TextEncoder().encode(table), { path, format: 'tsv', kind, ...(like && { like }) });
}
