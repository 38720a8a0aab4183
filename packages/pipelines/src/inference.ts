import { predict, type Executor, type Model, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  DataError,
  describe,
  didYouMean,
  outputsOf,
  problemTypeOf,
  type ProblemType,
} from '@peftjs/core/method';
import { actingParts, openRuntime, releaseRuntimes } from '@peftjs/core/runtime';
import type { Encoding, Tokenizer } from '@peftjs/models';
import { inputBatches } from '@peftjs/tasks';

/** A text, or a pair of texts that the model reads together, e.g. a premise and a hypothesis. */
export type TextInput = string | { readonly text: string; readonly textPair: string };

/** Options of every call. */
export interface CallOptions {
  /**
   * The adapter that acts, or one for each text; `'__base__'` for the frozen model. Default: the source's own, else the first of
   * `adapters`.
   */
  readonly adapter?: string | readonly string[];
}

/** A model in use: a plain one, or one with adapters. */
export type Acting = PeftModel | Model;

/** What a pipeline computes with. */
export interface Parts {
  /** The pipeline's task, for messages. */
  readonly task: string;
  readonly acting: Acting;
  readonly tokenizer: Tokenizer;
  /** Texts are cut there. */
  readonly maxTokens: number;
  readonly executor: Executor;
  readonly batchSize: number;
}

/** The adapters of a call: as the model stands, one for all texts, or one for each. */
export type Choice = undefined | string | readonly string[];

/** What the outputs of an adapter mean. */
export interface Meaning {
  readonly labels: readonly string[];
  readonly problemType: ProblemType;
}

/** The name of the frozen model among adapters. */
const BASE = '__base__';

/** Runs texts through a model. */
export interface Inference extends Parts {
  /** The outputs for each text, in the order given. */
  outputs(texts: readonly Encoding[], choice: Choice): Promise<Float32Array[]>;
  /** The model with the one adapter acting, or as it stands; what is prepared for it stays. */
  model(adapter: string | undefined): Acting;
  /** Gives up what is held of the model. */
  release(): Promise<void>;
}

/** Opens a model: what is prepared for it stays until it is released, whatever else runs on the executor. */
export function openInference(parts: Parts): Inference {
  const { acting, executor, batchSize, tokenizer } = parts;
  const held = new Map<Model, () => Promise<void>>();
  const hold = (model: Acting): void => {
    const { model: network } = actingParts(model);
    if (!held.has(network)) held.set(network, openRuntime(network, executor).close);
  };
  const alone = new Map<string, Acting>();
  const model = (adapter: string | undefined): Acting => {
    const found = adapter === undefined ? acting : (alone.get(adapter) ?? withOne(acting, adapter));
    if (adapter !== undefined) alone.set(adapter, found);
    hold(found);
    return found;
  };
  return {
    ...parts,
    model,
    async outputs(texts, choice) {
      const [one, ...others] = typeof choice === 'object' ? new Set(choice) : [choice];
      const isMixed = others.length > 0;
      const own = model(isMixed ? undefined : one); // alone an adapter takes less than in a mixed batch
      const rows = texts.map(({ ids, typeIds }) => ({
        ids: Int32Array.from(ids),
        ...(typeIds && { typeIds: Int32Array.from(typeIds) }),
      }));
      const batches = inputBatches(rows, { batchSize, padId: tokenizer.padTokenId });
      return predict(own, batches, { executor, ...(isMixed && { adapterNames: choice as readonly string[] }) });
    },
    async release() {
      for (const [network, close] of held) {
        await close();
        await releaseRuntimes(executor, network);
      }
      held.clear();
    },
  };
}

const NONE_MERGED = {};

/** The model with this adapter acting, whatever acts or is merged now. */
function withOne(acting: Acting, adapter: string): Acting {
  if (!('adapters' in acting)) return acting;
  if (adapter === BASE) return acting.model;
  return { ...acting, enabled: true, active: [adapter], merged: [], mergedWeights: NONE_MERGED };
}

/** What the outputs of a model with this adapter mean. */
export function outputMeaning(acting: Acting, adapter: string | undefined): Meaning {
  const { model } = actingParts(acting);
  const own = 'adapters' in acting ? acting.adapters.get(adapter ?? acting.active[0] ?? '') : undefined;
  const outputs = outputsOf(model) ?? 0;
  const labels = own?.labels ?? model.labels ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  const problemType = own?.problemType ?? problemTypeOf(model);
  return { labels, problemType };
}

/**
 * The choice that the option `adapter` makes for so many texts.
 * @throws ConfigError for a name that the model does not have, and for a list that is not one for each text.
 */
export function chosenAdapters({ task, acting }: Parts, adapter: unknown, texts: number): Choice {
  if (adapter === undefined) return undefined;
  const names: readonly unknown[] = Array.isArray(adapter) ? adapter : [adapter];
  const known = 'adapters' in acting ? [...acting.adapters.keys(), BASE] : [BASE];
  const odd = names.find((name) => typeof name !== 'string' || !known.includes(name));
  if (odd !== undefined) {
    throw new ConfigError(
      `${task}: option 'adapter' is ${describe(odd)}${didYouMean(odd, known)}; the pipeline has ${known.join(', ')}`,
      'adapter',
    );
  }
  if (typeof adapter === 'string') return adapter;
  if (names.length === texts) return names as readonly string[];
  throw new ConfigError(`${task}: option 'adapter' has ${names.length} names; expected one or ${texts}`, 'adapter');
}

/**
 * Texts as the model reads them.
 * @throws DataError for what is no text, an empty one, and one without any token, naming its place.
 */
export function encoded(
  { task, tokenizer, maxTokens }: Parts,
  texts: readonly unknown[],
  { prompt = '', ...options }: { readonly spans?: boolean; readonly prompt?: string } = {},
): Encoding[] {
  return texts.map((given, place) => {
    const { text, textPair } = textsOf(task, given, place);
    const encoding = tokenizer.encode(prompt + text, textPair, { maxTokens, ...options });
    if (encoding.ids.length > 0) return encoding;
    throw new DataError(`${task}: text ${place + 1}, ${describe(text)}, has no token that the model knows`, 'texts');
  });
}

/** A list of inputs, and whether one was given alone. */
export function asList(input: unknown): { readonly list: readonly unknown[]; readonly isOne: boolean } {
  return Array.isArray(input) ? { list: input, isOne: false } : { list: [input], isOne: true };
}

function textsOf(task: string, given: unknown, place: number): { text: string; textPair?: string } {
  if (typeof given !== 'object' || given === null) return { text: checkedText(task, given, place) };
  const { text, text_pair, textPair = text_pair } = given as Readonly<Record<string, unknown>>;
  return { text: checkedText(task, text, place), textPair: checkedText(task, textPair, place) };
}

function checkedText(task: string, text: unknown, place: number): string {
  if (typeof text === 'string' && text.trim() !== '') return text;
  const got = typeof text === 'string' ? 'an empty one' : describe(text);
  throw new DataError(`${task}: expected a text, or { text, textPair }, got ${got} in place ${place + 1}`, 'texts');
}
