import { firstNames, incompleteSave, type Task } from '@peftjs/core/model';
import { activations, type ActivationName } from '@peftjs/core/nn';
import type { Architecture } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { field, fileError, shown } from '../json.js';

/** A `model_type` of transformers. Pass your own to `fromPretrained` as `modelTypes`. */
export interface ModelType {
  /** The `model_type` in config.json. */
  readonly name: string;
  /** The classes whose checkpoints contain the network, for messages. */
  readonly savedBy: string;
  /** The prefix of the network's weight names, absent in checkpoints of the bare network. */
  readonly prefix: string;
  /**
   * Settings of config.json that do not affect the network here, in addition to those shared by all networks. Default:
   * none.
   */
  readonly ignoredSettings?: readonly string[];
  /** The suffixes of checkpoint weights that the network does not use, e.g. 'attn.bias'. Default: none. */
  readonly unusedWeights?: readonly string[];
  /**
   * Builds the network that a config.json describes, with its head for a task.
   * @throws CheckpointError for a setting that is invalid or not supported.
   * @throws UnsupportedError when it has no head for the task.
   */
  architecture(config: ConfigFile, task: Task): Architecture;
}

/** The file that identifies a folder of transformers and describes its model. */
export const CONFIG_FILE = 'config.json';

/** The maximum size of config.json, which has a line for each label. */
const CONFIG_BYTES = 16 * 2 ** 20;

/** The maximum number of rows or columns, above that of any network. */
const LARGEST_SIZE = 2 ** 24;

/** A parsed config.json. */
export interface ConfigFile {
  /** Its path, for messages. */
  readonly file: string;
  /** The parsed settings. */
  readonly settings: unknown;
  /**
   * The names of the settings read so far, with `section.` before those of a {@link section}. Unread settings are
   * rejected.
   */
  readonly read: Set<string>;
  /**
   * The names of settings that are written as floats although they are whole numbers. Only needed to export the file.
   */
  readonly floats?: ReadonlySet<string>;
  /** The prefix of a {@link section}'s names in `read`. Default: none. */
  readonly within?: string;
}

/** Returns a setting and marks it as read. */
export function setting({ settings, read, within = '' }: ConfigFile, name: string): unknown {
  read.add(within + name);
  return field(settings, name);
}

/** Returns a nested section of settings and marks it as read. Empty if it is missing. */
export function section(config: ConfigFile, name: string): ConfigFile {
  const settings = setting(config, name) ?? {};
  const within = `${config.within ?? ''}${name}.`;
  config.read.add(within);
  return { ...config, settings, within };
}

/**
 * Reads config.json.
 * @throws CheckpointError when it is missing, too large or not JSON, or when a save was interrupted.
 */
export async function readConfig(folder: ModelFolder): Promise<ConfigFile> {
  const file = folder.pathOf(CONFIG_FILE);
  const settings = await folder.json(CONFIG_FILE, CONFIG_BYTES);
  const incomplete = incompleteSave(settings);
  if (incomplete !== undefined) throw fileError(file, incomplete);
  return { file, settings, read: new Set() };
}

/** The bounds of an integer: at most `most`, and a divisor of `divides`. */
interface Bounds {
  readonly most?: number;
  readonly divides?: number;
}

/**
 * Returns a positive integer. Without `fallback`, it is required.
 * @throws CheckpointError when it is not an integer within bounds.
 */
export function positiveInteger(config: ConfigFile, name: string, fallback?: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 1, ...bounds });
}

/** Returns an integer of at least 0. @throws CheckpointError when it is not an integer within bounds. */
export function nonNegativeInteger(config: ConfigFile, name: string, fallback: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 0, ...bounds });
}

function integer(
  config: ConfigFile,
  name: string,
  fallback: number | undefined,
  { least, most = LARGEST_SIZE, divides }: Bounds & { readonly least: number },
): number {
  const fits = (value: unknown): value is number =>
    typeof value === 'number' &&
    Number.isInteger(value) &&
    value >= least &&
    value <= most &&
    (divides === undefined || divides % value === 0);
  const divisor = divides === undefined ? '' : ` that divides ${divides}`;
  return checked(config, name, fallback, `an integer from ${least} to ${most}${divisor}`, fits);
}

/**
 * Returns the ID of the padding token; undefined if it is null or not in the vocabulary.
 * @param usual The ID if config.json has none. Default: none.
 */
export function padTokenIdOf(config: ConfigFile, vocabSize: number, usual?: number): number | undefined {
  const value = setting(config, 'pad_token_id');
  const id = value === undefined ? usual : value;
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize ? (id as number) : undefined;
}

/**
 * Returns a list of `length` values.
 * @throws CheckpointError when it is not a list of that length, or `isValue` is false for a value. `expected` names the
 * values.
 */
export function listOf<T>(
  config: ConfigFile,
  name: string,
  length: number,
  { isValue, expected }: { readonly isValue: (value: unknown) => value is T; readonly expected: string },
): readonly T[] {
  const values = setting(config, name);
  if (Array.isArray(values) && values.length === length && values.every(isValue)) return values;
  throw fileError(config.file, `'${name}' must be a list of ${length} ${expected}, got ${shown(values)}`);
}

/** Returns a boolean setting. @throws CheckpointError when it is not a boolean. */
export function boolean(config: ConfigFile, name: string, fallback: boolean): boolean {
  return checked(config, name, fallback, 'true or false', (value) => typeof value === 'boolean');
}

/** Returns a setting. @throws CheckpointError when it is not what is expected. */
function checked<T>(
  config: ConfigFile,
  name: string,
  fallback: T | undefined,
  expected: string,
  fits: (value: unknown) => value is T,
): T {
  const value = setting(config, name) ?? fallback;
  if (fits(value)) return value;
  throw fileError(config.file, `'${name}' must be ${expected}, got ${shown(value)}`);
}

/**
 * Returns a number above 0. Without `fallback`, it is required.
 * @throws CheckpointError when it is not a number above 0.
 */
export function positiveNumber(config: ConfigFile, name: string, fallback?: number): number {
  const fits = (value: unknown): value is number => typeof value === 'number' && value > 0 && Number.isFinite(value);
  return checked(config, name, fallback, 'a number above 0', fits);
}

/** Returns the rate of a dropout. @throws CheckpointError when it is not a number in [0, 1). */
export function dropoutRate(config: ConfigFile, name: string, fallback: number): number {
  const fits = (value: unknown): value is number => typeof value === 'number' && value >= 0 && value < 1;
  return checked(config, name, fallback, 'a rate of dropout, a number of at least 0 and below 1', fits);
}

/** Returns the name of an activation. @throws CheckpointError when it is not supported. */
export function activation(config: ConfigFile, name: string, fallback: ActivationName): ActivationName {
  const fits = (value: unknown): value is ActivationName =>
    typeof value === 'string' && Object.hasOwn(activations, value);
  return checked(config, name, fallback, `one of ${Object.keys(activations).join(', ')}`, fits);
}

/** Returns the activation as a setting of a network's identity. Empty for the `usual` one. */
export function ownActivation(name: ActivationName, usual: ActivationName): Readonly<Record<string, number>> {
  return name === usual ? {} : { [`activation.${name}`]: 1 };
}

/** Returns a number above 0, as `read` does, or null. @throws CheckpointError when it is neither. */
export function orNull(
  read: (config: ConfigFile, name: string, fallback?: number) => number,
  config: ConfigFile,
  name: string,
  fallback: number | null,
): number | null {
  const value = setting(config, name);
  if (value === null || (value === undefined && fallback === null)) return null;
  return read(config, name, fallback ?? undefined);
}

/**
 * Rejects a setting whose value is not supported.
 * @param expected The only supported value.
 * @param fallback The value if config.json has none. Default: `expected`.
 * @throws CheckpointError naming it.
 */
export function assertSetting(config: ConfigFile, name: string, expected: unknown, fallback: unknown = expected): void {
  const value = setting(config, name) ?? fallback;
  if (value === expected) return;
  throw fileError(config.file, `'${name}' must be ${shown(expected)}, got ${shown(value)}, which is not supported`);
}

/**
 * Rejects unknown settings: those that were not read and are not known to have no effect.
 * @param ignoredSettings The settings of this network that have no effect here.
 * @throws CheckpointError naming the settings.
 */
export function assertAllSettingsRead(
  config: ConfigFile,
  network: string,
  ignoredSettings: readonly string[] = [],
): void {
  for (const [name, expected] of FIXED) {
    if (!config.read.has(name)) assertSetting(config, name, expected);
  }
  const isKnown = (name: string): boolean =>
    name.startsWith('_') || BOOKKEEPING.has(name) || ignoredSettings.includes(name);
  const unknown = unreadSettings(config.settings, config.read, '').filter((name) => !isKnown(name));
  if (unknown.length === 0) return;
  const names = firstNames(unknown.map((name) => `'${name}'`));
  throw fileError(
    config.file,
    `${network} does not know ${names}, which may change its outputs; delete those without effect from the file`,
  );
}

/** Returns the names of settings, including those of sections, that have a value and were not read. */
function unreadSettings(settings: unknown, read: ReadonlySet<string>, within: string): string[] {
  if (typeof settings !== 'object' || settings === null) return [];
  return Object.entries(settings).flatMap(([key, value]: [string, unknown]) => {
    const name = within + key;
    if (value === null || value === undefined) return [];
    if (!read.has(name)) return [name];
    return read.has(`${name}.`) ? unreadSettings(value, read, `${name}.`) : [];
  });
}

/** Settings of any network in transformers, with the only values supported unless the network reads them. */
const FIXED: readonly (readonly [name: string, expected: unknown])[] = [
  ['is_encoder_decoder', false],
  ['add_cross_attention', false],
  ['cross_attention_hidden_size', undefined],
];

/**
 * The settings that transformers writes into any config.json: origin, labels, tokens, and options of training,
 * inference and generation. None of them changes what a trained network computes, nor do names that start with '_'.
 */
const BOOKKEEPING: ReadonlySet<string> = new Set(
  `
  architectures attn_implementation auto_map custom_pipelines dtype model_name model_type name_or_path torch_dtype
  transformers_version transformers.js_config sbert_ce_default_activation_function sentence_transformers unsloth_fixed
  unsloth_version use_bfloat16 tf_legacy_loss torchscript pruned_heads quantization_config

  finetuning_task id2label label2id language num_labels problem_type task_specific_params

  bos_token_id cls_token_id decoder_start_token_id eos_token_id mask_token_id model_max_length pad_token_id padding
  padding_idx sep_token_id tokenizer_class unk_token_id

  attention_dropout attention_probs_dropout_prob attn_pdrop classifier_dropout dropout embd_pdrop embedding_dropout
  hidden_dropout_prob pooler_dropout resid_pdrop gradient_checkpointing initializer_range

  chunk_size_feed_forward is_decoder output_attentions output_hidden_states output_past return_dict tie_encoder_decoder
  tie_word_embeddings use_cache

  bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
  exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length min_length
  no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores prefix remove_invalid_values
  repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
  `
    .trim()
    .split(/\s+/),
);
