import { CheckpointError, incompleteSave, type Task } from '@peftjs/core/method';
import { activations, type ActivationName } from '@peftjs/core/nn';
import type { Architecture } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { field, shown } from '../json.js';

/** A `model_type` of transformers. One of your own is passed to `fromPretrained` as `modelTypes`. */
export interface ModelType {
  /** What config.json calls it. */
  readonly name: string;
  /** The classes whose checkpoints hold the network, as messages name them. */
  readonly savedBy: string;
  /** What every key of the network begins with, but in a checkpoint of the bare network. */
  readonly prefix: string;
  /** Settings that config.json may hold for it and that change nothing computed here, beside those that all networks share. */
  readonly inert?: readonly string[];
  /** Weights that its checkpoints may hold and that its network never reads: what their names end with, e.g. 'attn.bias'. */
  readonly unread?: readonly string[];
  /**
   * The network that a config.json describes, with its head for a task.
   * @throws CheckpointError for a setting that is impossible or not computed here.
   * @throws UnsupportedError for a task that it has no head for.
   */
  architecture(config: ConfigFile, task: Task): Architecture;
}

/** The file that says what a folder of transformers holds. */
export const CONFIG_FILE = 'config.json';

/** A few lines, and a line for each label. */
const CONFIG_BYTES = 16 * 2 ** 20;

/** More rows or columns than any network has. */
const LARGEST_SIZE = 2 ** 24;

/** A parsed config.json. */
export interface ConfigFile {
  /** Its path, as messages show it. */
  readonly file: string;
  readonly settings: unknown;
  /** The names of the settings that were read; those of a {@link section} follow its name and a dot. What is left is refused. */
  readonly read: Set<string>;
  /** Names of settings that stand as floats though they are whole numbers, where the file is written anew. */
  readonly floats?: ReadonlySet<string>;
  /** What the names of a {@link section} begin with in `read`. */
  readonly within?: string;
}

/** A setting as it stands, noted as read. */
export function setting({ settings, read, within = '' }: ConfigFile, name: string): unknown {
  read.add(within + name);
  return field(settings, name);
}

/** The settings that stand in one of the file, noted as read; none where it is left out. */
export function section(config: ConfigFile, name: string): ConfigFile {
  const settings = setting(config, name) ?? {};
  const within = `${config.within ?? ''}${name}.`;
  config.read.add(within);
  return { ...config, settings, within };
}

/** @throws CheckpointError when it is missing, too large or no JSON, or when a save into the folder was cut short. */
export async function readConfig(folder: ModelFolder): Promise<ConfigFile> {
  const file = folder.pathOf(CONFIG_FILE);
  const settings = await folder.json(CONFIG_FILE, CONFIG_BYTES);
  const incomplete = incompleteSave(settings);
  if (incomplete !== undefined) throw new CheckpointError(`${file}: ${incomplete}`, file);
  return { file, settings, read: new Set() };
}

/** Bounds of an integer. */
interface Bounds {
  readonly most?: number;
  readonly divides?: number;
}

/** A setting that counts something; one without fallback must be there. @throws CheckpointError unless it is a positive integer within bounds. */
export function positiveInteger(config: ConfigFile, name: string, fallback?: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 1, ...bounds });
}

/** A setting that counts something of which there may be none. @throws CheckpointError unless it is an integer within bounds. */
export function wholeNumber(config: ConfigFile, name: string, fallback: number, bounds: Bounds = {}): number {
  return integer(config, name, fallback, { least: 0, ...bounds });
}

function integer(
  config: ConfigFile,
  name: string,
  fallback: number | undefined,
  { least, most = LARGEST_SIZE, divides }: Bounds & { readonly least: number },
): number {
  const { file } = config;
  const value = setting(config, name) ?? fallback;
  const fits = Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
  if (fits && (divides === undefined || divides % (value as number) === 0)) return value as number;
  const divisor = divides === undefined ? '' : ` that divides ${divides}`;
  throw new CheckpointError(
    `${file}: '${name}' must be an integer from ${least} to ${most}${divisor}, got ${shown(value)}`,
    file,
  );
}

/** A setting that counts something, or null for none. @throws CheckpointError unless it is a positive integer or null. */
export function positiveIntegerOrNull(config: ConfigFile, name: string, fallback: number | null): number | null {
  const value = setting(config, name);
  if (value === null || (value === undefined && fallback === null)) return null;
  return positiveInteger(config, name, fallback ?? undefined);
}

/**
 * A setting with a value for each of `length` places.
 * @throws CheckpointError unless it is a list of that length whose values are all as `isValue` has them, `expected` in words.
 */
export function listOf<T>(
  config: ConfigFile,
  name: string,
  length: number,
  { isValue, expected }: { readonly isValue: (value: unknown) => value is T; readonly expected: string },
): readonly T[] {
  const values = setting(config, name);
  if (Array.isArray(values) && values.length === length && values.every(isValue)) return values;
  throw new CheckpointError(
    `${config.file}: '${name}' must be a list of ${length} ${expected}, got ${shown(values)}`,
    config.file,
  );
}

/** A setting that is on or off. @throws CheckpointError unless it is one. */
export function boolean(config: ConfigFile, name: string, fallback: boolean): boolean {
  const value = setting(config, name) ?? fallback;
  if (typeof value === 'boolean') return value;
  throw new CheckpointError(`${config.file}: '${name}' must be true or false, got ${shown(value)}`, config.file);
}

/** A setting above 0; one without fallback must be there. @throws CheckpointError unless it is one. */
export function positiveNumber(config: ConfigFile, name: string, fallback?: number): number {
  const value = setting(config, name) ?? fallback;
  if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value;
  throw new CheckpointError(`${config.file}: '${name}' must be a number above 0, got ${shown(value)}`, config.file);
}

/** An activation of transformers by its name. @throws CheckpointError for a name that has none here. */
export function activation(config: ConfigFile, name: string, fallback: ActivationName): ActivationName {
  const value = setting(config, name) ?? fallback;
  if (typeof value === 'string' && Object.hasOwn(activations, value)) return value as ActivationName;
  const known = Object.keys(activations).join(', ');
  throw new CheckpointError(`${config.file}: '${name}' must be one of ${known}, got ${shown(value)}`, config.file);
}

/** An activation among the settings that a network's identity is made of: `usual` is none of them. */
export function ownActivation(name: ActivationName, usual: ActivationName): Readonly<Record<string, number>> {
  return name === usual ? {} : { [`activation.${name}`]: 1 };
}

/** A setting above 0, or null for none. @throws CheckpointError unless it is one. */
export function positiveNumberOrNull(config: ConfigFile, name: string, fallback: number | null): number | null {
  const value = setting(config, name);
  if (value === null || (value === undefined && fallback === null)) return null;
  return positiveNumber(config, name, fallback ?? undefined);
}

/**
 * Refuses a setting that asks for another network than the one that is computed here.
 * @param fallback what it is where config.json leaves it out
 * @throws CheckpointError naming it.
 */
export function refuseUnless(config: ConfigFile, name: string, expected: unknown, fallback: unknown = expected): void {
  const value = setting(config, name) ?? fallback;
  if (value === expected) return;
  throw new CheckpointError(
    `${config.file}: '${name}' must be ${shown(expected)}, got ${shown(value)}, which is not supported`,
    config.file,
  );
}

/**
 * Refuses what a network was not asked about: a setting that was neither read nor is known to change nothing.
 * @param inert names that this network's files may hold and that change nothing computed here
 * @throws CheckpointError naming the settings.
 */
export function refuseUnread(config: ConfigFile, network: string, inert: readonly string[] = []): void {
  for (const [name, expected] of FIXED) {
    if (!config.read.has(name)) refuseUnless(config, name, expected);
  }
  const isKnown = (name: string): boolean => name.startsWith('_') || BOOKKEEPING.has(name) || inert.includes(name);
  const unknown = unread(config.settings, config.read, '').filter((name) => !isKnown(name));
  if (unknown.length === 0) return;
  const names = unknown.map((name) => `'${name}'`).join(', ');
  throw new CheckpointError(
    `${config.file}: ${network} does not know ${names}, which may change what it computes; delete what changes nothing from the file`,
    config.file,
  );
}

/** The settings, and those of sections, that nobody read and that have a value. */
function unread(settings: unknown, read: ReadonlySet<string>, within: string): string[] {
  if (typeof settings !== 'object' || settings === null) return [];
  return Object.entries(settings).flatMap(([key, value]: [string, unknown]) => {
    const name = within + key;
    if (value === null || value === undefined) return [];
    if (!read.has(name)) return [name];
    return read.has(`${name}.`) ? unread(value, read, `${name}.`) : [];
  });
}

/** What transformers lets every network be set to, and no network of ours is unless it says so. */
const FIXED: readonly (readonly [name: string, expected: unknown])[] = [
  ['is_encoder_decoder', false],
  ['add_cross_attention', false],
  ['cross_attention_hidden_size', undefined],
];

/**
 * What transformers writes into every config.json, whatever the network: where it comes from, its labels and tokens, how it is
 * trained, run and asked to write. None of it changes what a trained network computes. Names that begin with '_' are of this kind too.
 */
const BOOKKEEPING: ReadonlySet<string> = new Set(
  `
  architectures attn_implementation auto_map custom_pipelines dtype model_type name_or_path torch_dtype transformers_version
  transformers.js_config unsloth_fixed unsloth_version use_bfloat16 tf_legacy_loss torchscript pruned_heads quantization_config

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
