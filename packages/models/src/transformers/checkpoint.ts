import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import { labelsIn, outputMeaning, problemTypeIn, type Task, type WeightDtype } from '@peftjs/core/model';
import type { Architecture } from '../architecture.js';
import type { Checkpoint, CheckpointFormat, SourceFiles } from '../checkpoint.js';
import {
  limitIn,
  readChatTemplate,
  readEosTokenIds,
  readTokenizer,
  readTokenizerSettings,
  TOKENIZER_FILES,
} from './tokenizer.js';
import type { ModelFolder } from '../folder.js';
import { field, fileError, floatFields, shown } from '../json.js';
import {
  CONFIG_FILE,
  readConfig,
  assertSetting,
  assertAllSettingsRead,
  type ConfigFile,
  type ModelType,
} from './config.js';
import { modelTypes } from '../architectures/model-types.js';
import { architectureFor } from './bare.js';
import { PROMPTS_FILE, readEmbeddingSettings } from './sentence-transformers.js';
import type { Tokenizer } from '../tokenizer.js';
import { readWeights } from './weights.js';

/**
 * The format of transformers' `save_pretrained`: config.json, model.safetensors (or shards) and tokenizer.json.
 * @param own - Additional networks. One with the name of a built-in network replaces it.
 * @throws ConfigError when `own` is not a list of networks with unique names.
 */
export function transformersFormat(own: readonly ModelType[] = []): CheckpointFormat {
  const known = withBuiltIn(own);
  return {
    name: `a folder of transformers (${known.map(({ name }) => name).join(', ')})`,
    marker: CONFIG_FILE,
    async knows(folder) {
      const type = field((await readConfig(folder)).settings, 'model_type');
      return known.some(({ name }) => name === type);
    },
    read: (folder, task, dtype) => readTransformers(folder, known, task, dtype),
    files: (folder) => transformersFiles(folder, known),
  };
}

/**
 * Returns additional networks, then the built-in ones that they do not replace.
 * @throws ConfigError for an invalid list.
 */
export function withBuiltIn(own: readonly ModelType[]): readonly ModelType[] {
  const given: unknown = own;
  const isList = Array.isArray(given) && given.every(isModelType);
  const names = new Set(isList ? own.map(({ name }) => name) : []);
  if (isList && names.size === own.length) return [...own, ...modelTypes.filter(({ name }) => !names.has(name))];
  throw new ConfigError(
    `option 'modelTypes' is ${shown(own)}; expected a list of networks with unique names: { name, savedBy, prefix, architecture }`,
    'modelTypes',
  );
}

function isModelType(type: unknown): boolean {
  const texts = ['name', 'savedBy', 'prefix'].map((name) => field(type, name));
  return texts.every((text) => typeof text === 'string') && typeof field(type, 'architecture') === 'function';
}

/**
 * Reads a folder of transformers.
 * @param known The networks by their `model_type`.
 * @throws CheckpointError and UnsupportedError like `CheckpointFormat.read`.
 */
export async function readTransformers(
  folder: ModelFolder,
  known: readonly ModelType[],
  task: Task,
  dtype: WeightDtype,
): Promise<Checkpoint> {
  const config = await readConfig(folder);
  const modelType = modelTypeOf(config, known);
  assertSetting(config, 'quantization_config', undefined);
  const embedding = task === 'feature-extraction' ? await readEmbeddingSettings(folder) : undefined;
  const settings = await readTokenizerSettings(folder);
  const longest = embedding
    ? embedding.maxTokens
    : task === 'causal-lm'
      ? undefined
      : limitIn(field(settings[0], 'model_max_length'));
  const architecture = cutTo(longest, architectureFor(modelType, config, task));
  assertAllSettingsRead(config, modelType.name, modelType.ignoredSettings);
  const holdsHead = isFor(config, task);
  const { decoding } = architecture;
  const chatTemplate = decoding && (await readChatTemplate(folder, settings));
  const plain = await readTokenizer(folder, architecture, config, settings);
  const tokenizer = chatTemplate ? { ...plain, chatTemplate } : plain;
  if (embedding?.lowercase) refuseUnlessLowercase(tokenizer, folder.path);
  const eosTokenIds = decoding && (await readEosTokenIds(folder, config, { words: decoding.words, tokenizer }));
  const read = await readWeights(folder, architecture, { modelType, holdsHead, dtype });
  return {
    tokenizer,
    ...(eosTokenIds && { eosTokenIds }),
    ...(holdsHead && ownMeaning(config)),
    ...(embedding && { embedding }),
    ...read,
    ...(embedding && { weights: { ...read.weights, ...embedding.weights } }),
  };
}

/** @throws UnsupportedError when sentence-transformers lowercases texts and the tokenizer does not. */
function refuseUnlessLowercase(tokenizer: Tokenizer, path: string): void {
  if (tokenizer.tokenIds('ABC Def').join() === tokenizer.tokenIds('abc def').join()) return;
  throw new UnsupportedError(
    `${path}: sentence-transformers has 'do_lower_case' true, but tokenizer.json keeps capitals: add a Lowercase normalizer`,
    'do_lower_case',
  );
}

/** Limits the number of tokens that an architecture reads. */
function cutTo(maxTokens = Infinity, architecture: Architecture): Architecture {
  return { ...architecture, maxTokens: Math.min(maxTokens, architecture.maxTokens) };
}

/**
 * Returns what config.json says about the outputs. LABEL_0, .. do not count as labels: they are transformers'
 * placeholders.
 */
export function ownMeaning({ settings }: ConfigFile): Pick<Checkpoint, 'labels' | 'problemType'> {
  const labels = labelsIn(field(settings, 'id2label'));
  const isPlaceholder = labels?.every((label, index) => label === `LABEL_${index}`) ?? true;
  return outputMeaning({
    labels: isPlaceholder ? undefined : labels,
    problemType: problemTypeIn(field(settings, 'problem_type')),
  });
}

/**
 * Whether the class in config.json has a head for the task: those for texts and for tokens may have the same names. True
 * if it is neither.
 */
function isFor({ settings }: ConfigFile, task: Task): boolean {
  const names = field(settings, 'architectures');
  const [name] = Array.isArray(names) ? (names as unknown[]) : [];
  const [, kind] = /For(Sequence|Token)Classification$/.exec(typeof name === 'string' ? name : '') ?? [];
  return kind === undefined || `${kind.toLowerCase()}-classification` === task;
}

/**
 * Reads the files that an export of a folder of transformers copies.
 * @param known The networks by their `model_type`; of another one, `otherwise` returns the type.
 */
export async function transformersFiles(
  folder: ModelFolder,
  known: readonly ModelType[] = modelTypes,
  otherwise?: (config: ConfigFile) => ModelType,
): Promise<SourceFiles> {
  const config = { ...(await readConfig(folder)), floats: floatFields(await folder.bytes(CONFIG_FILE)) };
  const tokenizer = new Map<string, Uint8Array>();
  for (const file of [...TOKENIZER_FILES, PROMPTS_FILE]) {
    if (await folder.exists(file)) tokenizer.set(file, await folder.bytes(file));
  }
  return { tokenizer, transformers: { config, type: modelTypeOf(config, known, otherwise) } };
}

/** Returns the model type in config.json. @throws CheckpointError when it is unknown. */
function modelTypeOf(
  config: ConfigFile,
  known: readonly ModelType[],
  otherwise?: (config: ConfigFile) => ModelType,
): ModelType {
  const { file, settings } = config;
  const name = field(settings, 'model_type');
  const modelType = known.find((type) => type.name === name) ?? otherwise?.(config);
  if (modelType) return modelType;
  const names = known.map((type) => shown(type.name)).join(', ');
  const folder = file.slice(0, -CONFIG_FILE.length).replace(/\/$/, '') || '.';
  throw fileError(
    file,
    `unknown 'model_type' ${shown(name)}; known ones are ${names}; pass others as modelTypes, or export the model as an ONNX graph and open that: optimum-cli export onnx --model ${folder} FOLDER`,
  );
}
