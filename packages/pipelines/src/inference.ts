import { predict, type Executor, type InputBatch, type Model, type PeftModel } from '@peftjs/core';
import { ConfigError, DataError, describe } from '@peftjs/core/method';
import { didYouMean, outputsOf, problemTypeOf, type ProblemType } from '@peftjs/core/model';
import { activeParts, openRuntime, releaseRuntimes } from '@peftjs/core/runtime';
import type { ChatTemplate, Encoding, Tokenizer } from '@peftjs/models';
import { inputBatches } from '@peftjs/tasks';

/** A text, or a pair of texts that the model reads together, e.g. premise and hypothesis. */
export type TextInput = string | { readonly text: string; readonly textPair: string };

/** Options of every call. */
export interface CallOptions {
  /**
   * The adapter to use, or one for each text; `'__base__'` is the frozen model. Default: the source's own adapter, else
   * the first of `adapters`.
   */
  readonly adapter?: string | readonly string[];
}

/** A model with or without adapters. */
export type LoadedModel = PeftModel | Model;

/** Returns the network, without adapters. */
export function networkOf(loadedModel: LoadedModel): Model {
  return 'adapters' in loadedModel ? loadedModel.model : loadedModel;
}

/** The parts of a pipeline. */
export interface PipelineParts {
  /** The pipeline's task, for messages. */
  readonly task: string;
  /** The model. */
  readonly loadedModel: LoadedModel;
  /** The model's tokenizer. */
  readonly tokenizer: Tokenizer;
  /** The chat templates of adapters, by name. */
  readonly templates: ReadonlyMap<string, ChatTemplate>;
  /** The maximum number of tokens: longer texts are truncated. */
  readonly maxTokens: number;
  /** The executor that runs the model. */
  readonly executor: Executor;
  /** The maximum number of texts per batch. */
  readonly batchSize: number;
  /** Whether concurrent calls share batches. */
  readonly shareBatches: boolean;
  /** How the model reads images. Absent for models of texts. */
  readonly images?: ImageParts | undefined;
  /** What the user says that the outputs mean, whatever the adapter or the model says. */
  readonly asked?: { readonly [Part in keyof OutputMeaning]?: OutputMeaning[Part] | undefined };
}

/** How a model reads images, in place of its tokenizer. */
export interface ImageParts {
  /** Reads images. */
  encode(images: readonly unknown[]): Promise<readonly Encoding[]>;
  /** Makes batches of them. */
  batches(images: readonly Encoding[]): InputBatch[];
}

/** The adapters of a call: undefined for the active ones, one for all texts, or one for each. */
export type AdapterChoice = undefined | string | readonly string[];

/** The meaning of an adapter's outputs. */
export interface OutputMeaning {
  /** The labels, in the order of the outputs. */
  readonly labels: readonly string[];
  /** Whether the outputs are one class, several classes or a regression. */
  readonly problemType: ProblemType;
  /** What logits are divided by before the softmax. Default 1. */
  readonly temperature?: number | undefined;
}

/** The name of the frozen model among adapters. */
const BASE = '__base__';

/** A model's outputs for a text, and what they meant when they were computed. */
export interface Answer {
  /** The outputs. */
  readonly outputs: Float32Array;
  /** Their meaning. */
  readonly meaning: OutputMeaning;
}

/** Runs texts through a model. */
export interface Inference extends PipelineParts {
  /** Returns the answer for each text, in the given order. */
  readonly answers: (texts: readonly Encoding[], choice: AdapterChoice) => Promise<Answer[]>;
  /** Returns the model with only this adapter active, or with the active ones. Keeps it prepared. */
  model(adapter: string | undefined): LoadedModel;
  /** Frees the model's resources. */
  release(): Promise<void>;
}

/** Opens a model. It stays prepared until it is released, whatever else runs on the executor. */
export function openInference(parts: PipelineParts): Inference {
  const { loadedModel, executor, batchSize, tokenizer, images } = parts;
  const held = new Map<Model, () => Promise<void>>();
  const networks = new Map<string | undefined, Model>(); // what each adapter acts on; merging makes another network
  const hold = (adapter: string | undefined, model: LoadedModel): void => {
    const { model: network } = activeParts(model);
    const before = networks.get(adapter);
    networks.set(adapter, network);
    if (!held.has(network)) held.set(network, openRuntime(network, executor).close);
    if (before && ![...networks.values()].includes(before)) letGo(before).catch(() => undefined); // its calls go on
  };
  const letGo = async (network: Model): Promise<void> => {
    const close = held.get(network);
    held.delete(network);
    await close?.();
    await releaseRuntimes(executor, network);
  };
  const alone = new Map<string, LoadedModel>();
  const model = (adapter: string | undefined): LoadedModel => {
    const found = adapter === undefined ? loadedModel : (alone.get(adapter) ?? withOne(loadedModel, adapter));
    if (adapter !== undefined) alone.set(adapter, found);
    hold(adapter, found);
    return found;
  };
  return {
    ...parts,
    model,
    async answers(texts, choice) {
      const [one, ...others] = typeof choice === 'object' ? new Set(choice) : [choice];
      const isMixed = others.length > 0;
      const own = model(isMixed ? undefined : one); // a single adapter costs less than a mixed batch
      const rows = texts.map(({ ids, typeIds }) => ({
        ids: Int32Array.from(ids),
        ...(typeIds && { typeIds: Int32Array.from(typeIds) }),
      }));
      const batches = images?.batches(texts) ?? inputBatches(rows, { batchSize, padId: tokenizer.padTokenId });
      const meanings = texts.map((_, text) => outputMeaning(parts, adapterOf(choice, text))); // may change meanwhile
      const options = { executor, ...(isMixed && { adapterNames: choice as readonly string[] }) };
      const outputs = await predict(own, batches, options);
      return outputs.map((row, text) => ({ outputs: row, meaning: meanings[text] as OutputMeaning }));
    },
    async release() {
      for (const network of held.keys()) await letGo(network);
    },
  };
}

const NONE_MERGED = {};

/** Returns the model with only this adapter active and nothing merged. */
function withOne(loadedModel: LoadedModel, adapter: string): LoadedModel {
  if (!('adapters' in loadedModel)) return loadedModel;
  if (adapter === BASE) return loadedModel.model;
  return { ...loadedModel, enabled: true, active: [adapter], merged: [], mergedWeights: NONE_MERGED };
}

/** Returns the meaning of the model's outputs with this adapter: what the user says, else the adapter, else the model. */
export function outputMeaning(
  { loadedModel, asked }: Pick<PipelineParts, 'loadedModel' | 'asked'>,
  adapter: string | undefined,
): OutputMeaning {
  const { model } = activeParts(loadedModel);
  const active = 'adapters' in loadedModel && loadedModel.enabled ? loadedModel.active[0] : undefined;
  const own = 'adapters' in loadedModel ? loadedModel.adapters.get(adapter ?? active ?? '') : undefined;
  const outputs = outputsOf(model) ?? 0;
  const named = asked?.labels ?? own?.labels ?? model.labels;
  return {
    labels: named ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`),
    problemType: asked?.problemType ?? own?.problemType ?? problemTypeOf(model),
    temperature: own?.temperature,
  };
}

/** Texts as a model read them, and its answer for each. */
interface Answers {
  readonly texts: readonly Encoding[];
  readonly found: readonly Answer[];
}

/** Runs texts through a model. @throws ConfigError or DataError like `chosenAdapters` and `encoded`. */
export async function answers(
  inference: Inference,
  list: readonly unknown[],
  adapter: unknown,
  options: ReadOptions = {},
): Promise<Answers> {
  const choice = chosenAdapters(inference, adapter, list.length);
  const { images } = inference;
  const texts = images ? await images.encode(list) : encoded(inference, list, options);
  return { texts, found: await inference.answers(texts, choice) };
}

/** Returns the adapter of one text. */
export function adapterOf(choice: AdapterChoice, text: number): string | undefined {
  return typeof choice === 'object' ? choice[text] : choice;
}

/**
 * Returns the adapters that the option `adapter` chooses for a number of texts.
 * @throws ConfigError for an unknown name, and for a list whose length is not the number of texts.
 */
export function chosenAdapters({ task, loadedModel }: PipelineParts, adapter: unknown, texts: number): AdapterChoice {
  if (adapter === undefined) return undefined;
  const names: readonly unknown[] = Array.isArray(adapter) ? adapter : [adapter];
  const known = 'adapters' in loadedModel ? [...loadedModel.adapters.keys(), BASE] : [BASE];
  const odd = names.find((name) => typeof name !== 'string' || !known.includes(name));
  if (odd !== undefined) {
    throw new ConfigError(
      `${task}: option 'adapter' is ${describe(odd)}${didYouMean(odd, known)}; the pipeline has ${known.join(', ')}`,
      'adapter',
    );
  }
  if (typeof adapter === 'string') return adapter;
  if (names.length === texts) return names as readonly string[];
  throw new ConfigError(
    `${task}: option 'adapter' is a list of ${names.length}; expected one name, or a list of ${texts}, one for each text`,
    'adapter',
  );
}

/** How texts are read. */
interface ReadOptions {
  /** Whether to find the characters of each token. Default false. */
  readonly spans?: boolean;
  /** Whether each text is read as words, as training reads tagged ones. Default false. */
  readonly areWords?: boolean;
  /** The text before each. Default none. */
  readonly prompt?: string;
}

/**
 * Encodes texts as the model reads them.
 * @throws DataError for a value that is not a text, an empty text and a text without tokens, naming its position.
 */
export function encoded(
  { task, tokenizer, maxTokens }: PipelineParts,
  texts: readonly unknown[],
  { prompt = '', spans = false, areWords = false }: ReadOptions = {},
): Encoding[] {
  return texts.map((given, index) => {
    const { text, textPair } = textsOf(task, given, index);
    const limits = { maxTokens, spans };
    const encoding = areWords ? tokenizer.encodeWords(text, limits) : tokenizer.encode(prompt + text, textPair, limits);
    if (encoding.ids.length > 0) return encoding;
    throw new DataError(`${task}: text ${index + 1}, ${describe(text)}, has no token known to the model`, 'texts');
  });
}

/** Returns the inputs as a list, and whether a single input was given. */
export function asList(input: unknown): { readonly list: readonly unknown[]; readonly isOne: boolean } {
  return Array.isArray(input) ? { list: input, isOne: false } : { list: [input], isOne: true };
}

function textsOf(task: string, given: unknown, index: number): { text: string; textPair?: string } {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    return { text: checkedText(task, given, index) };
  const { text, text_pair, textPair = text_pair } = given as Readonly<Record<string, unknown>>;
  return { text: checkedText(task, text, index), textPair: checkedText(task, textPair, index) };
}

function checkedText(task: string, text: unknown, index: number): string {
  if (typeof text === 'string' && text.trim() !== '') return text;
  const got = typeof text === 'string' ? 'an empty one' : describe(text);
  throw new DataError(`${task}: expected a text, or { text, textPair }, got ${got} at position ${index + 1}`, 'texts');
}
