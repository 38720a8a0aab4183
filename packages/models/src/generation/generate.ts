/**
 * Generates texts token by token. One pass reads the prompts and caches the keys and values of their tokens; then each
 * new token is a pass over that token only. Both passes have fixed shapes, so each compiles once: the length of padded
 * prompts and the capacity of the cache are powers of two, or the model's maximum if that is less.
 */
import type { Executor, Model, PeftModel } from '@peftjs/core';
import {
  createRng,
  floats,
  hostIntegers,
  parseOptions,
  tensorAt,
  type AdapterLayers,
  type HostTensors,
  type Rng,
} from '@peftjs/core/method';
import { anything, aRecord, assertArgument, type ChatMessage } from '@peftjs/core/model';
import {
  activeParts,
  modelInputs,
  nextTask,
  openRuntime,
  dynamicSpecs,
  releaseAll,
  uploadAll,
  type InputSpec,
  type ForwardPass,
  type Runtime,
  type Values,
} from '@peftjs/core/runtime';
import type { Decoding } from '../architecture.js';
import type { PretrainedModel } from '../pretrained.js';
import type { Tokenizer } from '../tokenizer.js';
import { applyRepetitionPenalty, argMax, candidates, sampleToken, withoutRepeats } from './next-token.js';
import {
  checkPrompts,
  decodingOf,
  generationSettings,
  promptInputs,
  roomFor,
  type GenerationResult,
  type GenerateOptions,
  type GenerationSettings,
} from './options.js';
import {
  chatPrompt,
  chatEntries,
  textPrompt,
  writeText,
  type Answer,
  type GenerateChatOptions,
  type GenerateTextOptions,
} from './text.js';

/** The executor that runs a model. */
interface OnExecutor {
  readonly executor: Executor;
}

/** A model opened for generation, with its weights as they were then. Call `dispose` to free its resources. */
export interface TextGenerator {
  /** {@link generate} */
  generate(prompts: readonly ArrayLike<number>[], options?: GenerateOptions): Promise<GenerationResult[]>;
  /** {@link generateText} */
  generateText(prompt: string, options?: GenerateTextOptions): Promise<string>;
  /** {@link generateChat} */
  generateChat(messages: readonly ChatMessage[], options?: GenerateChatOptions): Promise<Answer>;
  /** Frees the weights and compiled programs. */
  dispose(): Promise<void>;
}

/**
 * Continues prompts of token IDs, of any lengths in one batch. A text ends after `maxNewTokens` tokens, at an end
 * token, or at the model's maximum length. Each token is the most likely one unless `doSample` is set.
 *
 * @param model A causal language model. The active adapters apply if it has any.
 * @throws UnsupportedError when the model is not a causal language model.
 * @throws ConfigError for a prompt that is empty, too long or has unknown tokens, and for an invalid option.
 * @throws EngineError when the model's outputs are not finite.
 * @example
 * const prompt = model.tokenizer.encode('Once').ids;
 * const [{ ids }] = await generate(model, [prompt], { executor: compiled(), maxNewTokens: 40 });
 */
export async function generate(
  model: PeftModel | Model,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions & OnExecutor,
): Promise<GenerationResult[]> {
  return withGenerator(model, options, (generator, own) => generator.generate(prompts, own));
}

/**
 * Returns the text that a model generates after a prompt, without the prompt. See {@link generate}.
 *
 * @throws UnsupportedError when the model is not a causal language model or has no tokenizer.
 * @throws ConfigError for a prompt that is empty or too long, and for an invalid option.
 * @example
 * const onText = (piece) => show(piece);
 * await generateText(peft, 'Once upon a time', { executor: compiled(), doSample: true, seed: 1, onText });
 */
export async function generateText(
  model: PeftModel | Model,
  prompt: string,
  options: GenerateTextOptions & OnExecutor,
): Promise<string> {
  return withGenerator(model, options, (generator, own) => generator.generateText(prompt, own));
}

/**
 * Returns the assistant's next message in a conversation. The model's chat template renders the conversation, and the
 * message ends where the template ends a turn: at a special token, or at the text that it writes there.
 *
 * @throws UnsupportedError when the model is not a causal language model, has no tokenizer, or there is no chat
 * template.
 * @throws DataError when the chat template rejects the conversation.
 * @throws ConfigError for a conversation that is empty or too long, and for an invalid option.
 * @example
 * const messages = [{ role: 'user', content: 'What is an atom?' }];
 * const answer = await generateChat(peft, messages, { executor: compiled(), maxNewTokens: 80 });
 * // { role: 'assistant', content: .. }
 */
export async function generateChat(
  model: PeftModel | Model,
  messages: readonly ChatMessage[],
  options: GenerateChatOptions & OnExecutor,
): Promise<Answer> {
  return withGenerator(model, options, (generator, own) => generator.generateChat(messages, own));
}

async function withGenerator<O extends OnExecutor, T>(
  model: PeftModel | Model,
  options: O,
  use: (generator: TextGenerator, own: Omit<O, 'executor'>) => Promise<T>,
): Promise<T> {
  assertArgument('options', options, aRecord);
  const { executor, ...own } = options;
  const generator = openGenerator(model, { executor });
  try {
    return await use(generator, own);
  } finally {
    await generator.dispose();
  }
}

/** What a model is opened with for generation. */
interface OpenGeneratorOptions extends OnExecutor {
  /** The tokenizer of prompts and answers. Default: the model's. */
  readonly tokenizer?: Tokenizer | undefined;
}

/**
 * Opens a model for repeated generation: its weights stay on the executor, and compiled programs are reused.
 * @throws UnsupportedError when the model is not a causal language model.
 */
export function openGenerator(peft: PeftModel | Model, options: OpenGeneratorOptions): TextGenerator {
  parseOptions('openGenerator', { executor: anything, tokenizer: anything }, options);
  const { model, layers, values } = activeParts(peft);
  const { eosTokenIds = [], tokenizer: own } = model as Partial<PretrainedModel>;
  const { executor, tokenizer = own } = options;
  const decoding = decodingOf(model);
  const runtime = openRuntime(model, executor);
  const adapter = uploadAll(executor, values);
  const write: TextGenerator['generate'] = async (prompts, options = {}) => {
    const settings = generationSettings(options, eosTokenIds, decoding.words);
    checkPrompts(prompts, decoding);
    return writeAll({ decoding, runtime, layers, adapter }, prompts, settings, options);
  };
  return {
    generate: write,
    generateText: async (prompt, options = {}) => writeText(write, textPrompt(tokenizer, prompt), options),
    async generateChat(messages, given = {}) {
      parseOptions('generateChat', chatEntries, given);
      const { template, tools, ...options } = given;
      const { endOfTurn, ...prompt } = chatPrompt(tokenizer, messages, { template, tools });
      const eosTokenId = options.eosTokenId ?? [...eosTokenIds, ...endOfTurn];
      return { role: 'assistant', content: await writeText(write, prompt, { ...options, eosTokenId }) };
    },
    async dispose() {
      releaseAll(executor, adapter);
      await runtime.close();
    },
  };
}

/** The passes that generate text, and what they run on. */
interface Writer {
  readonly decoding: Decoding;
  readonly runtime: Runtime;
  readonly layers: AdapterLayers;
  readonly adapter: Values;
}

/** A text in progress. */
interface Text {
  /** The index of its prompt. */
  readonly prompt: number;
  readonly promptLength: number;
  /** The prompt and the tokens generated so far. */
  readonly ids: number[];
  readonly rng: Rng;
  ended?: GenerationResult['ended'];
}

async function writeAll(
  writer: Writer,
  prompts: readonly ArrayLike<number>[],
  settings: GenerationSettings,
  options: GenerateOptions,
): Promise<GenerationResult[]> {
  const { decoding, runtime } = writer;
  const { rebuildCacheAt = Infinity } = decoding;
  const texts = prompts.map((prompt, number): Text => {
    const rng = createRng(settings.seed).fork(String(number));
    return { prompt: number, promptLength: prompt.length, ids: Array.from(prompt), rng };
  });
  const longest = Math.max(...prompts.map(({ length }) => length));
  const capacity = roomFor(Math.min(longest + settings.maxNewTokens - 1, decoding.maxTokens), decoding);
  const readAll = (rows: readonly ArrayLike<number>[], tokens: number): Promise<PassResult> =>
    readPrompts(writer, rows, roomFor(tokens, decoding), capacity);
  options.signal?.throwIfAborted();
  let { logits, cache } = await readAll(prompts, longest);
  try {
    for (let before = longest; ;) {
      await nextTask(); // an abort may arrive here
      options.signal?.throwIfAborted();
      for (const text of texts) {
        if (!text.ended) await writeOne(text, logits(text.prompt), writer, settings, options);
      }
      if (texts.every(({ ended }) => ended)) break;
      const rows = texts.map(({ ids }) => ids);
      const now = Math.max(...rows.map(({ length }) => length)); // the longest may have ended
      const isRebuilt = before < rebuildCacheAt && now >= rebuildCacheAt;
      before = now;
      const next = await (isRebuilt ? readAll(rows, now) : readTokens(writer, texts, cache, capacity));
      releaseAll(runtime.executor, cache);
      ({ logits, cache } = next);
    }
  } finally {
    releaseAll(runtime.executor, cache);
  }
  return texts.map(({ ids, promptLength, ended = 'length' }) => ({ ids: ids.slice(promptLength), ended }));
}

/** Chooses the next token of a text and decides whether the text ends there. */
async function writeOne(
  text: Text,
  logits: Float32Array,
  { decoding }: Writer,
  settings: GenerationSettings,
  { onToken, stoppingCriteria }: GenerateOptions,
): Promise<void> {
  const penalised = applyRepetitionPenalty(logits, text.ids, settings.repetitionPenalty);
  const scores = withoutRepeats(penalised, text.ids, settings.noRepeatNgramSize);
  const id = settings.doSample ? sampleToken(candidates(scores, settings), text.rng) : argMax(scores);
  text.ids.push(id);
  await onToken?.({ prompt: text.prompt, id });
  const written = text.ids.slice(text.promptLength);
  if (settings.eosTokenIds.has(id)) text.ended = 'eos';
  else if (await stoppingCriteria?.(written, text.prompt)) text.ended = 'stopped';
  else if (written.length === settings.maxNewTokens || text.ids.length > decoding.maxTokens) text.ended = 'length';
}

/** The result of a pass: the logits [words] by prompt index, and the cache for the next pass. */
interface PassResult {
  readonly logits: (prompt: number) => Float32Array;
  readonly cache: Values;
}

function readPrompts(
  writer: Writer,
  prompts: readonly ArrayLike<number>[],
  tokens: number,
  capacity: number,
): Promise<PassResult> {
  const pass: ForwardPass = {
    name: `prompt for ${capacity}`,
    compute: (scope, inputs) => writer.decoding.readPrompt(scope, inputs, capacity),
  };
  return runPass(writer, pass, promptInputs(prompts, tokens));
}

/** Reads the last token of every text. Texts that have ended are read too, and their results ignored. */
function readTokens(writer: Writer, texts: readonly Text[], cache: Values, capacity: number): Promise<PassResult> {
  const { decoding } = writer;
  const shape = [texts.length, 1];
  const last = texts.map(({ ids }) => ids.at(-1) as number);
  const positions = texts.map(({ ids }) => Math.min(ids.length, capacity) - 1);
  const pass: ForwardPass = {
    name: `token for ${capacity}`,
    compute: (scope, inputs) => decoding.readToken(scope, inputs, capacity),
  };
  const inputs = {
    inputIds: hostIntegers(Int32Array.from(last), shape),
    positions: hostIntegers(Int32Array.from(positions), shape),
  };
  return runPass(writer, pass, inputs, { values: cache, specs: decoding.cacheSpecs('batch', capacity) });
}

/** The cache from the previous pass, and its specs. */
interface Cache {
  readonly values: Values;
  readonly specs: Readonly<Record<string, InputSpec>>;
}

async function runPass(
  { decoding: { words }, runtime, layers, adapter }: Writer,
  pass: ForwardPass,
  given: HostTensors,
  { values, specs }: Cache = { values: {}, specs: {} },
): Promise<PassResult> {
  const { executor, model } = runtime;
  const inputs = modelInputs(model, layers, { inputs: given });
  const [rows = 1, tokens = 1] = tensorAt(given, 'inputIds').shape;
  // A pass over one token per text has a fixed token axis.
  const open = {
    inputs: dynamicSpecs(inputs, { rows, tokens: tokens > 1 ? tokens : undefined }),
    cache: specs,
    rows: {},
  };
  const { program, frozen } = runtime.pass(layers, pass, open);
  const { logits, ...cache } = await program.run({ inputs, rows: {} }, { cache: values, frozen, adapter });
  const all = floats(await executor.download(logits)); // [texts, words]
  executor.release(logits);
  return { logits: (prompt) => all.subarray(prompt * words, (prompt + 1) * words), cache };
}
