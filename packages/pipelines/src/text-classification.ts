import * as v from 'valibot';
import { callOptions } from './call-options.js';
import { answers, asList, type CallOptions, type Inference, type OutputMeaning, type TextInput } from './inference.js';
import { descendingOrder, scoreEntries, scoresOf, type ScoreFunction } from './scores.js';

/** A label and its score. */
export interface LabelScore {
  /** The label. */
  readonly label: string;
  /** The probability; for a regression, the predicted number. */
  readonly score: number;
}

/** Options of a text-classification call. */
export interface ClassifyOptions extends CallOptions {
  /** The number of labels to return, best first; null for all. Default 1 (5 for images), or all with `threshold`. */
  readonly topK?: number | null;
  /** The minimum score of a returned label, for multi-label models. Default: none. */
  readonly threshold?: number;
  /** How outputs become scores. Default: sigmoid for multi-label models, none for regression, else softmax. */
  readonly functionToApply?: ScoreFunction;
}

/** The result for a list of texts: one label per text if only one is requested, else a list per text. */
type OfList<O extends ClassifyOptions> = O extends { readonly threshold: number }
  ? LabelScore[][]
  : O extends { readonly topK: infer K }
    ? K extends 1
      ? LabelScore[]
      : number extends K
        ? LabelScore[] | LabelScore[][]
        : LabelScore[][]
    : Extract<keyof O, 'topK' | 'threshold'> extends never
      ? LabelScore[]
      : LabelScore[] | LabelScore[][];

/** Classifies texts. */
export interface TextClassifier {
  /** Returns the labels of a text, best first. */
  (text: TextInput, options?: ClassifyOptions): Promise<LabelScore[]>;
  /** Returns the label of each text, or a list for each with `threshold` or a `topK` other than 1. */
  <const O extends ClassifyOptions = { readonly topK: 1 }>(
    texts: readonly TextInput[],
    options?: O,
  ): Promise<OfList<O>>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}

const settings = { ...scoreEntries, threshold: v.optional(v.pipe(v.number(), v.finite())) };

const DEFAULT_SCORING: Readonly<Record<OutputMeaning['problemType'], ScoreFunction>> = {
  single_label_classification: 'softmax',
  multi_label_classification: 'sigmoid',
  regression: 'none',
};

/** The number of labels of an image, as in transformers.js. */
const MOST_OF_IMAGES = 5;

/** Classifies one text or several, or images. */
export async function classify(inference: Inference, input: unknown, options: unknown): Promise<unknown> {
  const { adapter, topK, threshold, functionToApply } = callOptions(inference.task, settings, options);
  const { list, isOne } = asList(input);
  const { found } = await answers(inference, list, adapter);
  const isOfTexts = inference.images === undefined;
  const usual = isOfTexts ? 1 : MOST_OF_IMAGES;
  const most = topK === undefined ? (threshold === undefined ? usual : null) : topK;
  const results = found.map(({ outputs, meaning: { labels, problemType, temperature } }) => {
    const scores = scoresOf(outputs, functionToApply ?? DEFAULT_SCORING[problemType], temperature);
    return descendingOrder(scores)
      .slice(0, most ?? labels.length)
      .map((index) => ({ label: labels[index] as string, score: scores[index] as number }))
      .filter(({ score }) => threshold === undefined || score >= threshold);
  });
  if (isOne) return results[0];
  return isOfTexts && most === 1 && threshold === undefined ? results.flat() : results;
}
