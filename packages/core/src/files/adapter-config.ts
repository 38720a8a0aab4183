import { describe, warnOnce } from '../config.js';
import { CheckpointError } from '../errors.js';
import {
  hasOneClass,
  isInHead,
  labelFields,
  labelsIn,
  outputMeaning,
  outputsOf,
  problemTypeIn,
  type OutputMeaning,
} from '../head.js';
import type { AdapterFile, PeftMethod, TargetConfig } from '../contracts/method.js';
import type { AdapterLayers } from '../contracts/layer.js';
import { readsImages, type Model, type ProblemType, type Task } from '../contracts/model.js';
import { trainsTokens } from '../adapter/token-rows.js';
import type { Adapter } from '../adapter/peft-model.js';
import { incompleteSave } from '../storage.js';
import { tensorAt } from '../tensors.js';

/* adapter_config.json, the configuration in an adapter's folder. */

const MAX_CONFIG_BYTES = 4 << 20;
/**
 * Limits on adapter_config.json: levels of nesting, and entries of one list or table (e.g. names of modules, ranks by
 * module).
 */
const MAX_DEPTH = 10;
const MAX_ITEMS = 10_000;

/** The field that marks an adapter which was trained on conversations. PEFT ignores it with a warning. */
const CHAT_FIELD = 'peftjs_chat';

/** Returns whether a configuration is of an adapter that was trained on conversations. */
export function isChatConfig(config: ConfigFields): boolean {
  return config[CHAT_FIELD] === true;
}

/** The fields of adapter_config.json. */
export type ConfigFields = AdapterFile['config'];

/**
 * Returns the fields of an adapter's adapter_config.json, in PEFT's names. No base is named for a merged model, whose
 * name a reader would open without what was merged.
 */
export function configFields(
  model: Model,
  { saved, config, labels, problemType, temperature, isChat }: Adapter,
  file: ConfigFields,
): ConfigFields {
  const { isMerged = false, name, revision = null } = model;
  if (isMerged) {
    warnOnce(
      `this adapter belongs to a merged copy of '${name}', so its file names no base model: save the copy with saveMerged, and pass that folder as the model when you load the adapter`,
    );
  }
  return {
    auto_mapping: null,
    base_model_name_or_path: isMerged ? null : name,
    inference_mode: true,
    modules_to_save: savedNames(model, saved),
    revision: isMerged ? null : revision,
    task_type: readsImages(model) ? null : TASK_TYPES[model.task ?? 'sequence-classification'],
    ...(labels && labelFields(labels)), // PEFT has no such fields and ignores them with a warning
    ...(problemType && { problem_type: problemType }),
    ...(temperature && { temperature }),
    ...(isChat && { [CHAT_FIELD]: true }),
    ...tokenFields(config),
    ...file,
    ...('exclude_modules' in file && { exclude_modules: excludedModules(config, file) }),
  };
}

/** Returns a configuration's fields for single tokens and tied tables, in PEFT's names; none where it uses neither. */
export function tokenFields({ trainableTokenIndices, ensureWeightTying }: TargetConfig): ConfigFields {
  return {
    ...(trainableTokenIndices && { trainable_token_indices: trainableTokenIndices }),
    ...(ensureWeightTying && { ensure_weight_tying: true }),
  };
}

/**
 * Returns the meaning of the outputs in a configuration; empty where PEFT wrote it, or the model has no classes.
 * @throws CheckpointError unless labels are different names for all outputs, for an unknown problem type, and for a
 * temperature that is no positive number or not of a classifier with one class per row.
 */
export function storedMeaning(config: ConfigFields, model: Model): OutputMeaning {
  const { id2label, problem_type: type, temperature } = config;
  const { task = 'sequence-classification' } = model;
  if (task === 'causal-lm' && isChatConfig(config)) return { isChat: true };
  if (task === 'causal-lm' || task === 'feature-extraction') return {};
  const problemType = isLeftOut(type) ? undefined : storedProblemType(type);
  return outputMeaning({
    labels: isLeftOut(id2label) ? undefined : storedLabels(id2label, model),
    problemType,
    temperature: isLeftOut(temperature) ? undefined : storedTemperature(temperature, hasOneClass(model, problemType)),
  });
}

function storedTemperature(value: unknown, isOfClasses: boolean): number {
  if (isOfClasses && typeof value === 'number' && value > 0 && value < Infinity) return value;
  throw new CheckpointError(
    `temperature is ${describe(value)}; expected a number above 0, with a classifier of one class per row`,
    'temperature',
  );
}

function isLeftOut(field: unknown): boolean {
  return field === undefined || field === null;
}

function storedProblemType(value: unknown): ProblemType {
  const problemType = problemTypeIn(value);
  if (problemType) return problemType;
  throw new CheckpointError(`problem_type is ${describe(value)}; expected one of transformers' names`, 'problem_type');
}

function storedLabels(id2label: unknown, model: Model): readonly string[] {
  const outputs = outputsOf(model);
  const labels = labelsIn(id2label);
  if (labels && labels.length === (outputs ?? labels.length)) return labels;
  throw new CheckpointError(
    `id2label is ${describe(id2label)}; expected a different name for each ${outputs === undefined ? 'output' : `of the ${outputs} outputs`}`,
    'id2label',
  );
}

/** PEFT's names of the tasks, in the `task_type` of an adapter. All are tasks on texts: image networks have none. */
const TASK_TYPES: Readonly<Record<Task, string>> = {
  'sequence-classification': 'SEQ_CLS',
  'token-classification': 'TOKEN_CLS',
  'causal-lm': 'CAUSAL_LM',
  'feature-extraction': 'FEATURE_EXTRACTION',
};

/** Returns the task of a `task_type`; undefined for one that peftjs does not have, and where it is left out. */
export function taskIn(taskType: unknown): Task | undefined {
  return (Object.keys(TASK_TYPES) as Task[]).find((task) => TASK_TYPES[task] === taskType);
}

/** Returns the names of the modules trained in full, the head's as the model names them. */
function savedNames(model: Model, saved: AdapterLayers): readonly string[] | null {
  const paths = Object.keys(saved).filter((path) => !trainsTokens(tensorAt(saved, path)));
  const others = paths.filter((path) => !isInHead(model, path));
  const heads = model.head.filter((name) => paths.some((path) => isInHead({ head: [name] }, path)));
  const names = [...others, ...heads];
  return names.length === 0 ? null : names;
}

/**
 * Returns the modules that the user excluded plus those that lost every rank; a user's pattern is kept only if none
 * did. Not every method of PEFT has the field.
 */
function excludedModules({ excludeModules }: TargetConfig, file: ConfigFields): string | string[] | null {
  const dropped = stringList(file.exclude_modules);
  if (typeof excludeModules === 'string' && dropped.length === 0) return excludeModules;
  const names = new Set([...stringList(excludeModules), ...dropped]);
  return names.size === 0 ? null : [...names];
}

/** Encodes the configuration as a file, with sorted keys as PEFT writes it. */
export function encodeConfig(fields: ConfigFields): Uint8Array {
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  return new TextEncoder().encode(`${JSON.stringify(sorted, null, 2)}\n`);
}

/**
 * Reads a configuration. @throws CheckpointError when it is too large, not JSON, nested too deeply, from an interrupted
 * save, or without a `peft_type`.
 */
export function decodeConfig(bytes: Uint8Array, path: string): ConfigFields {
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new CheckpointError(
      `${path} has ${bytes.length} bytes; an adapter configuration has at most ${MAX_CONFIG_BYTES}`,
      path,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${path} is not JSON: ${String(cause).replace(/[\s\p{C}]+/gu, ' ')}`, path, cause);
  }
  const incomplete = incompleteSave(parsed);
  if (incomplete !== undefined) throw new CheckpointError(`${path}: ${incomplete}`, path);
  assertBounded(parsed, path);
  if (parsed !== null && typeof parsed === 'object' && 'peft_type' in parsed && typeof parsed.peft_type === 'string') {
    return { ...parsed };
  }
  throw new CheckpointError(`${path} needs a 'peft_type', the name of the method that made it`, path);
}

/** Checks that a value is no larger than any adapter's configuration. @throws CheckpointError when it is. */
function assertBounded(value: unknown, path: string, depth = 0): void {
  if (typeof value !== 'object' || value === null) return;
  const items = Object.values(value);
  if (depth < MAX_DEPTH && items.length <= MAX_ITEMS) {
    for (const item of items) assertBounded(item, path, depth + 1);
    return;
  }
  throw new CheckpointError(
    `${path} is nested more than ${MAX_DEPTH} deep or has more than ${MAX_ITEMS} values in one place, unlike any adapter's configuration`,
    path,
  );
}

/**
 * Returns the method for a configuration. The method of exactly its type comes before one that also reads it.
 * @throws CheckpointError when none of them reads it.
 */
export function methodFor(fields: ConfigFields, methods: readonly PeftMethod[], folder: string): PeftMethod {
  const type = String(fields.peft_type);
  const found =
    methods.find(({ name }) => name.toUpperCase() === type) ??
    methods.find(({ peftTypes }) => peftTypes.includes(type));
  if (found) return found;
  const known = [...new Set(methods.flatMap(({ peftTypes }) => peftTypes))].join(', ');
  throw new CheckpointError(
    `${folder} holds a ${type} adapter; the methods given read ${known || 'nothing'}`,
    'peft_type',
  );
}

/** Returns the strings of a list; none for any other value. */
export function stringList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
