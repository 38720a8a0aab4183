import { describe } from '../config.js';
import { CheckpointError } from '../errors.js';
import { labelFields, labelsIn } from '../labels.js';
import type { AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Model, Task } from '../contracts/model.js';
import type { Adapter } from '../adapter/peft-model.js';
import { isOfHead, outputsOf } from '../adapter/head.js';
import type { TargetConfig } from '../adapter/targets.js';
import { incompleteSave } from './write-folder.js';

const MAX_CONFIG_BYTES = 4 << 20;
/** Levels, and entries of one list or table: names of modules, ranks of AdaLoRA. */
const MAX_DEPTH = 10;
const MAX_ITEMS = 10_000;

/** The fields of adapter_config.json. */
export type ConfigFields = AdapterFile['config'];

/** What adapter_config.json says of an adapter, in PEFT's names. */
export function configFields(model: Model, { saved, config, labels }: Adapter, file: ConfigFields): ConfigFields {
  return {
    auto_mapping: null,
    base_model_name_or_path: model.name,
    inference_mode: true,
    modules_to_save: savedNames(model, Object.keys(saved)),
    revision: null,
    task_type: TASK_TYPES[model.task ?? 'sequence-classification'],
    ...(labels && labelFields(labels)), // PEFT has no such fields, and ignores them with a warning
    ...file,
    ...('exclude_modules' in file && { exclude_modules: excludedModules(config, file) }),
  };
}

/**
 * The names of classes that a configuration holds; undefined where it holds none, as one written by PEFT, or the model has no classes.
 * @throws CheckpointError where they are not different names for each of the outputs.
 */
export function storedLabels({ id2label }: ConfigFields, model: Model): readonly string[] | undefined {
  if (id2label === undefined || id2label === null || model.task === 'causal-lm') return undefined;
  const outputs = outputsOf(model);
  const labels = labelsIn(id2label);
  if (labels && labels.length === (outputs ?? labels.length)) return labels;
  throw new CheckpointError(
    `id2label is ${describe(id2label)}; expected a different name for each ${outputs === undefined ? 'output' : `of the ${outputs} outputs`}`,
    'id2label',
  );
}

/** What PEFT calls the tasks. */
const TASK_TYPES: Readonly<Record<Task, string>> = {
  'sequence-classification': 'SEQ_CLS',
  'token-classification': 'TOKEN_CLS',
  'causal-lm': 'CAUSAL_LM',
};

/** The modules trained whole, those of the head by its own names. */
function savedNames(model: Model, paths: readonly string[]): readonly string[] | null {
  const others = paths.filter((path) => !isOfHead(model, path));
  const names = [...others, ...(others.length < paths.length ? model.head : [])];
  return names.length === 0 ? null : names;
}

/** The modules that the user left out, and those that lost every rank; not every method of PEFT has the field. Beside these a pattern is not needed. */
function excludedModules({ excludeModules }: TargetConfig, file: ConfigFields): string | string[] | null {
  const dropped = stringList(file.exclude_modules);
  if (typeof excludeModules === 'string' && dropped.length === 0) return excludeModules;
  const names = new Set([...stringList(excludeModules), ...dropped]);
  return names.size === 0 ? null : [...names];
}

/** The configuration as a file: keys sorted, as PEFT writes it. */
export function encodeConfig(fields: ConfigFields): Uint8Array {
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  return new TextEncoder().encode(`${JSON.stringify(sorted, null, 2)}\n`);
}

/** Reads a configuration. @throws CheckpointError when it is too large, no JSON, nested too deeply, cut short, or says no `peft_type`. */
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

/** @throws CheckpointError when a value holds more than any adapter's configuration does. */
function assertBounded(value: unknown, path: string, depth = 0): void {
  if (typeof value !== 'object' || value === null) return;
  const items = Object.values(value);
  if (depth < MAX_DEPTH && items.length <= MAX_ITEMS) {
    for (const item of items) assertBounded(item, path, depth + 1);
    return;
  }
  throw new CheckpointError(
    `${path} is nested more than ${MAX_DEPTH} deep or has more than ${MAX_ITEMS} values in one place; an adapter's configuration is not`,
    path,
  );
}

/**
 * The method for a configuration: that of its very type before one that can read it too.
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

/** The strings of a list; none of anything else. */
export function stringList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
